//! Environment variables for libraries that read nothing else.

/// Tells candle and rayon, whose pools are sized by their environment when they are first used, how
/// many threads to take. To be called before this process starts any thread.
pub fn set_library_threads(threads: usize) {
    for name in ["RAYON_NUM_THREADS", "CANDLE_NUM_THREADS"] {
        // SAFETY: no other thread runs yet that could read the environment meanwhile.
        unsafe { std::env::set_var(name, threads.to_string()) };
    }
}
