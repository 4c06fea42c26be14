//! Philox4x32-10 (Salmon et al. 2011): random numbers as a pure function of key and counter.
