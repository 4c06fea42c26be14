//! Matrix products by cuBLASLt: one plan for each kind of product, chosen by the library's
//! heuristic when it is first asked for.

use crate::backend::{
    BackendError, Result,
    cuda::driver::{
        Address,
        gemm::{Compute, Epilogue, Gemm, Number, Operand},
        libraries::{self, Library, OtherVersion},
    },
};
use cudarc::{
    cublaslt::{result, sys},
    driver,
};
use std::{
    cell::RefCell,
    collections::{HashMap, hash_map::Entry},
    ffi::c_void,
    mem::size_of,
    ptr::from_ref,
};

/// Whether the library, which has been loaded, is the one that was meant.
pub(super) fn check_version() -> std::result::Result<(), OtherVersion> {
    // SAFETY: the library is loaded; the function only tells.
    let version = unsafe { sys::cublasLtGetVersion() };
    // 130401 is 13.4.1. Before CUDA 12 it was 11401 for 11.4.1.
    libraries::check_major(
        Library::CublasLt,
        if version >= 100_000 { version / 10_000 } else { version / 1000 },
    )
}

/// Memory that products may use meanwhile: what NVIDIA advises for Hopper.
const WORKSPACE: usize = 32 << 20;

/// A handle with its plans.
#[derive(Debug)]
pub(super) struct BlasLt {
    handle: sys::cublasLtHandle_t,
    stream: driver::sys::CUstream,
    workspace: Address,
    /// `None` where the library has no algorithm.
    plans: RefCell<HashMap<Gemm, Option<Plan>>>,
}

fn failed(what: &str) -> impl Fn(result::CublasError) -> BackendError + '_ {
    move |e| BackendError::Device(format!("cuBLASLt failed while {what}: {:?}", e.0))
}

/// Whether the library objects to what it was asked for, rather than failing at it.
fn refused(e: result::CublasError) -> bool {
    use sys::cublasStatus_t::{CUBLAS_STATUS_INVALID_VALUE, CUBLAS_STATUS_NOT_SUPPORTED};
    matches!(e.0, CUBLAS_STATUS_INVALID_VALUE | CUBLAS_STATUS_NOT_SUPPORTED)
}

/// All that describes a product but the addresses.
#[derive(Debug)]
struct Plan {
    description: sys::cublasLtMatmulDesc_t,
    a: sys::cublasLtMatrixLayout_t,
    b: sys::cublasLtMatrixLayout_t,
    d: sys::cublasLtMatrixLayout_t,
    algorithm: sys::cublasLtMatmulAlgo_t,
}

impl BlasLt {
    /// A handle that works on `stream`.
    pub(super) fn new(stream: driver::sys::CUstream) -> Result<Self> {
        let handle = result::create_handle().map_err(failed("starting"))?;
        // SAFETY: a context is current.
        let workspace = unsafe { driver::result::malloc_sync(WORKSPACE) };
        let workspace = workspace.map_err(|_| BackendError::Memory {
            what: "matrix products on the GPU".into(),
            bytes: WORKSPACE as u64,
        })?;
        Ok(BlasLt { handle, stream, workspace, plans: RefCell::default() })
    }

    /// Starts a product; `false` if the library has none of this kind.
    ///
    /// # Safety
    /// The matrices must lie in memory that may be used so.
    pub(super) unsafe fn gemm(&self, gemm: &Gemm) -> Result<bool> {
        let mut plans = self.plans.borrow_mut();
        let known = match plans.entry(gemm.kind()) {
            Entry::Occupied(plan) => plan.into_mut(),
            Entry::Vacant(place) => {
                let plan = Plan::new(self.handle, place.key())?;
                place.insert(plan)
            }
        };
        let Some(plan) = known else { return Ok(false) };
        // SAFETY: the plan's parts live; the caller promises the rest.
        match unsafe { self.start(plan, gemm) } {
            Ok(()) => Ok(true),
            // Some objections come only now. Nothing has been started then, and we do without this
            // end from here on.
            Err(e) if refused(e) && gemm.epilogue != Epilogue::None => {
                *known = None;
                Ok(false)
            }
            Err(e) => Err(failed("multiplying")(e)),
        }
    }

    unsafe fn start(
        &self,
        plan: &Plan,
        gemm: &Gemm,
    ) -> std::result::Result<(), result::CublasError> {
        let (alpha, beta) = (1.0f32, if gemm.add { 1.0f32 } else { 0.0 });
        // SAFETY: the caller's promise.
        unsafe {
            plan.point(&gemm.epilogue)?;
            result::matmul(
                self.handle,
                plan.description,
                from_ref(&alpha).cast(),
                from_ref(&beta).cast(),
                gemm.a.at as *const c_void,
                plan.a,
                gemm.b.at as *const c_void,
                plan.b,
                gemm.d.at as *const c_void,
                plan.d,
                gemm.d.at as *mut c_void,
                plan.d,
                &plan.algorithm,
                self.workspace as *mut c_void,
                WORKSPACE,
                self.stream.cast(),
            )
        }
    }
}

impl Drop for BlasLt {
    fn drop(&mut self) {
        // SAFETY: plans go before the handle; nobody uses either after this.
        unsafe {
            self.plans.borrow_mut().clear();
            let _ = result::destroy_handle(self.handle);
            let _ = driver::result::free_sync(self.workspace);
        }
    }
}

use sys::cublasLtMatmulDescAttributes_t as Attribute;
use sys::cublasLtMatmulPreferenceAttributes_t as Preference;
use sys::cublasLtReductionScheme_t as Scheme;

/// Sets an attribute of a description.
unsafe fn set<T>(
    description: sys::cublasLtMatmulDesc_t,
    attribute: Attribute,
    value: &T,
) -> std::result::Result<(), result::CublasError> {
    // SAFETY: the caller's description; the value has its own size.
    unsafe {
        result::set_matmul_desc_attribute(
            description,
            attribute,
            from_ref(value).cast(),
            size_of::<T>(),
        )
    }
}

impl Plan {
    /// A plan for a kind of product ([`Gemm::kind`]), if the library has an algorithm for it.
    fn new(handle: sys::cublasLtHandle_t, kind: &Gemm) -> Result<Option<Self>> {
        use sys::{cublasComputeType_t as Type, cudaDataType_t as Data};
        let data = |number| match number {
            Number::F32 => Data::CUDA_R_32F,
            Number::Bf16 => Data::CUDA_R_16BF,
            Number::F16 => Data::CUDA_R_16F,
        };
        let (number, result) = (data(kind.number), data(kind.result));
        let compute = match (kind.number, kind.compute) {
            (Number::F32, Compute::Tf32) => Type::CUBLAS_COMPUTE_32F_FAST_TF32,
            _ => Type::CUBLAS_COMPUTE_32F,
        };
        let layout = |o: Operand, number, rows: usize, cols: usize| {
            let (rows, cols) = if o.transposed { (cols, rows) } else { (rows, cols) };
            result::create_matrix_layout(number, rows as u64, cols as u64, o.stride as i64)
        };
        let described = failed("describing");
        let plan = Plan {
            description: result::create_matmul_desc(compute, Data::CUDA_R_32F)
                .map_err(&described)?,
            a: layout(kind.a, number, kind.m, kind.k).map_err(&described)?,
            b: layout(kind.b, number, kind.k, kind.n).map_err(&described)?,
            d: layout(kind.d, result, kind.m, kind.n).map_err(&described)?,
            algorithm: sys::cublasLtMatmulAlgo_t { data: [0; 8] },
        };
        // CUBLAS_OP_N and CUBLAS_OP_T.
        let operation = |o: Operand| i32::from(o.transposed);
        let end = match kind.epilogue {
            Epilogue::None => sys::cublasLtEpilogue_t::CUBLASLT_EPILOGUE_DEFAULT,
            Epilogue::Bias(_) => sys::cublasLtEpilogue_t::CUBLASLT_EPILOGUE_BIAS,
            Epilogue::BiasRelu(_) => sys::cublasLtEpilogue_t::CUBLASLT_EPILOGUE_RELU_BIAS,
            Epilogue::BiasReluMask(..) => sys::cublasLtEpilogue_t::CUBLASLT_EPILOGUE_RELU_AUX_BIAS,
            Epilogue::ReluGradient(_) => sys::cublasLtEpilogue_t::CUBLASLT_EPILOGUE_DRELU,
            Epilogue::SumsOfB(_) => sys::cublasLtEpilogue_t::CUBLASLT_EPILOGUE_BGRADB,
        };
        // SAFETY: the parts have just been made.
        unsafe {
            set(plan.description, Attribute::CUBLASLT_MATMUL_DESC_TRANSA, &operation(kind.a))
                .map_err(&described)?;
            set(plan.description, Attribute::CUBLASLT_MATMUL_DESC_TRANSB, &operation(kind.b))
                .map_err(&described)?;
            set(plan.description, Attribute::CUBLASLT_MATMUL_DESC_EPILOGUE, &end)
                .map_err(&described)?;
            if kind.epilogue.vector().is_some() {
                set(plan.description, Attribute::CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, &result)
                    .map_err(&described)?;
            }
            if let Some(mask) = kind.epilogue.mask() {
                let stride = mask.stride as i64;
                set(plan.description, Attribute::CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, &stride)
                    .map_err(&described)?;
            }
            // Nobody looks there yet, but some algorithms ask what the addresses are multiples of.
            plan.point(&kind.epilogue).map_err(&described)?;
            plan.choose(handle, kind)
        }
    }

    /// Says where bias, sums and bits of the end are.
    unsafe fn point(&self, end: &Epilogue) -> std::result::Result<(), result::CublasError> {
        // SAFETY: the plan's parts live.
        unsafe {
            if let Some(at) = end.vector() {
                set(self.description, Attribute::CUBLASLT_MATMUL_DESC_BIAS_POINTER, &at)?;
            }
            match end.mask() {
                Some(mask) => set(
                    self.description,
                    Attribute::CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER,
                    &mask.at,
                ),
                None => Ok(()),
            }
        }
    }

    /// With the algorithm that the library thinks the fastest; none if there is none.
    unsafe fn choose(mut self, handle: sys::cublasLtHandle_t, kind: &Gemm) -> Result<Option<Self>> {
        let described = failed("choosing an algorithm");
        let preference = result::create_matmul_pref().map_err(&described)?;
        // Addresses of a kind say what the real ones are multiples of. Of the ways to cut a long
        // sum only that one is allowed which keeps the parts in f32 and adds them in their order in
        // a pass of its own: the others add into the result as parts arrive, or round each of them
        // to its numbers.
        let wishes = [
            (
                Preference::CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
                Scheme::CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE as u32,
            ),
            (Preference::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, kind.a.at as u32),
            (Preference::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, kind.b.at as u32),
            (Preference::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, kind.d.at as u32),
            (Preference::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, kind.d.at as u32),
        ];
        // SAFETY: all parts live.
        let found = unsafe {
            let size = WORKSPACE;
            let workspace = Preference::CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES;
            let mut done = result::set_matmul_pref_attribute(
                preference,
                workspace,
                from_ref(&size).cast(),
                size_of::<usize>(),
            );
            for (wish, bytes) in wishes {
                done = done.and_then(|()| {
                    result::set_matmul_pref_attribute(
                        preference,
                        wish,
                        from_ref(&bytes).cast(),
                        size_of::<u32>(),
                    )
                });
            }
            let found = done.and_then(|()| {
                result::get_matmul_algo_heuristic(
                    handle,
                    self.description,
                    self.a,
                    self.b,
                    self.d,
                    self.d,
                    preference,
                )
            });
            let _ = result::destroy_matmul_pref(preference);
            found
        };
        match found {
            Ok(found) => self.algorithm = found.algo,
            // Whatever the library says against the end of a product: it can do without, and a
            // kernel of ours does the rest.
            Err(_) if kind.epilogue != Epilogue::None => return Ok(None),
            Err(e) => return Err(described(e)),
        }
        Ok(Some(self))
    }
}

impl Drop for Plan {
    fn drop(&mut self) {
        // SAFETY: made by `new`, and nobody uses them after this.
        unsafe {
            let _ = result::destroy_matmul_desc(self.description);
            for layout in [self.a, self.b, self.d] {
                let _ = result::destroy_matrix_layout(layout);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_library_that_is_found_is_the_one_that_is_called() {
        match libraries::load(Library::CublasLt) {
            Ok(()) => assert_eq!(check_version(), Ok(())),
            Err(missing) => eprintln!("skipped: {missing}"),
        }
    }
}
