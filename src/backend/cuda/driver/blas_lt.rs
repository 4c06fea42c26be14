//! Matrix products by cuBLASLt: one plan for each kind of product, chosen by the library's heuristic when it is first asked for.

use crate::backend::{
    BackendError, Result,
    cuda::driver::{
        Address,
        gemm::{Compute, Epilogue, Gemm, Number, Operand},
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
        let workspace =
            workspace.map_err(|_| BackendError::Memory { what: "matrix products on the GPU".into(), bytes: WORKSPACE as u64 })?;
        Ok(BlasLt { handle, stream, workspace, plans: RefCell::default() })
    }

    /// Starts a product; `false` if the library has none of this kind.
    ///
    /// # Safety
    /// The matrices must lie in memory that may be used so.
    pub(super) unsafe fn gemm(&self, gemm: &Gemm) -> Result<bool> {
        let mut plans = self.plans.borrow_mut();
        let plan = match plans.entry(gemm.kind()) {
            Entry::Occupied(plan) => plan.into_mut(),
            Entry::Vacant(place) => {
                let plan = Plan::new(self.handle, place.key())?;
                place.insert(plan)
            }
        };
        let Some(plan) = plan else { return Ok(false) };
        let (one, zero) = (1.0f32, 0.0f32);
        // SAFETY: the plan's parts live; the caller promises the rest.
        unsafe {
            if let Epilogue::Bias(at) | Epilogue::BiasRelu(at) | Epilogue::SumsOfB(at) = gemm.epilogue {
                set(plan.description, Attribute::CUBLASLT_MATMUL_DESC_BIAS_POINTER, &at).map_err(failed("describing"))?;
            }
            result::matmul(
                self.handle,
                plan.description,
                from_ref(&one).cast(),
                from_ref(&zero).cast(),
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
            .map_err(failed("multiplying"))?;
        }
        Ok(true)
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

/// Sets an attribute of a description.
unsafe fn set<T>(
    description: sys::cublasLtMatmulDesc_t,
    attribute: Attribute,
    value: &T,
) -> std::result::Result<(), result::CublasError> {
    // SAFETY: the caller's description; the value has its own size.
    unsafe { result::set_matmul_desc_attribute(description, attribute, from_ref(value).cast(), size_of::<T>()) }
}

impl Plan {
    /// A plan for a kind of product ([`Gemm::kind`]), if the library has an algorithm for it.
    fn new(handle: sys::cublasLtHandle_t, kind: &Gemm) -> Result<Option<Self>> {
        use sys::{cublasComputeType_t as Type, cudaDataType_t as Data};
        let number = match kind.number {
            Number::F32 => Data::CUDA_R_32F,
            Number::Bf16 => Data::CUDA_R_16BF,
            Number::F16 => Data::CUDA_R_16F,
        };
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
            description: result::create_matmul_desc(compute, Data::CUDA_R_32F).map_err(&described)?,
            a: layout(kind.a, number, kind.m, kind.k).map_err(&described)?,
            b: layout(kind.b, number, kind.k, kind.n).map_err(&described)?,
            d: layout(kind.d, Data::CUDA_R_32F, kind.m, kind.n).map_err(&described)?,
            algorithm: sys::cublasLtMatmulAlgo_t { data: [0; 8] },
        };
        // CUBLAS_OP_N and CUBLAS_OP_T.
        let operation = |o: Operand| i32::from(o.transposed);
        let end = match kind.epilogue {
            Epilogue::None => sys::cublasLtEpilogue_t::CUBLASLT_EPILOGUE_DEFAULT,
            Epilogue::Bias(_) => sys::cublasLtEpilogue_t::CUBLASLT_EPILOGUE_BIAS,
            Epilogue::BiasRelu(_) => sys::cublasLtEpilogue_t::CUBLASLT_EPILOGUE_RELU_BIAS,
            Epilogue::SumsOfB(_) => sys::cublasLtEpilogue_t::CUBLASLT_EPILOGUE_BGRADB,
        };
        // SAFETY: the parts have just been made.
        unsafe {
            set(plan.description, Attribute::CUBLASLT_MATMUL_DESC_TRANSA, &operation(kind.a)).map_err(&described)?;
            set(plan.description, Attribute::CUBLASLT_MATMUL_DESC_TRANSB, &operation(kind.b)).map_err(&described)?;
            set(plan.description, Attribute::CUBLASLT_MATMUL_DESC_EPILOGUE, &end).map_err(&described)?;
            if let Epilogue::Bias(at) | Epilogue::BiasRelu(at) | Epilogue::SumsOfB(at) = kind.epilogue {
                let bias = Data::CUDA_R_32F;
                set(plan.description, Attribute::CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, &bias).map_err(&described)?;
                // Nobody looks there yet, but some algorithms ask what the address is a multiple of.
                set(plan.description, Attribute::CUBLASLT_MATMUL_DESC_BIAS_POINTER, &at).map_err(&described)?;
            }
            plan.choose(handle, kind)
        }
    }

    /// With the algorithm that the library thinks the fastest; none if there is none.
    unsafe fn choose(mut self, handle: sys::cublasLtHandle_t, kind: &Gemm) -> Result<Option<Self>> {
        let described = failed("choosing an algorithm");
        let preference = result::create_matmul_pref().map_err(&described)?;
        // Addresses of a kind say what the real ones are multiples of.
        let wishes = [
            (Preference::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, kind.a.at as u32),
            (Preference::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, kind.b.at as u32),
            (Preference::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, kind.d.at as u32),
            (Preference::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, kind.d.at as u32),
        ];
        // SAFETY: all parts live.
        let found = unsafe {
            let size = WORKSPACE;
            let workspace = Preference::CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES;
            let mut done = result::set_matmul_pref_attribute(preference, workspace, from_ref(&size).cast(), size_of::<usize>());
            for (wish, bytes) in wishes {
                done = done.and_then(|()| {
                    result::set_matmul_pref_attribute(preference, wish, from_ref(&bytes).cast(), size_of::<u32>())
                });
            }
            let found = done.and_then(|()| {
                result::get_matmul_algo_heuristic(handle, self.description, self.a, self.b, self.d, self.d, preference)
            });
            let _ = result::destroy_matmul_pref(preference);
            found
        };
        match found {
            Ok(found) => self.algorithm = found.algo,
            // Whatever the library says against the end of a product: it can do without, and a kernel of ours does the rest.
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
