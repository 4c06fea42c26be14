//! Kernels to machine code, by NVRTC.

use super::{
    Source, cache,
    libraries::{self, Library, MissingLibrary, OtherVersion},
};
use cudarc::nvrtc::{result, sys};
use std::{ffi::CString, path::Path};

/// Why a kernel could not be compiled.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    /// No compiler.
    #[error(transparent)]
    Missing(#[from] MissingLibrary),
    /// A compiler of another CUDA.
    #[error(transparent)]
    Other(#[from] OtherVersion),
    /// The compiler itself.
    #[error("NVRTC: {0}")]
    Nvrtc(String),
    /// The kernel.
    #[error("cannot compile {name}.cu for {architecture}: {log}")]
    Source {
        /// Which file.
        name: &'static str,
        /// For what.
        architecture: String,
        /// What the compiler says.
        log: String,
    },
}

/// Machine code, and what the compiler said of it.
#[derive(Debug)]
pub struct Compiled {
    /// A cubin.
    pub code: Vec<u8>,
    /// Registers, stack and spills of each kernel, line by line.
    pub log: String,
}

/// Nothing is fused behind the kernels' backs: where they mean a fused multiply-add they say so,
/// and all else has the CPU's bits.
const OPTIONS: [&str; 3] = ["--std=c++17", "-fmad=false", "--ptxas-options=-v"];

/// NVRTC's version.
///
/// # Errors
/// If there is none, or one of another CUDA.
pub fn version() -> Result<(i32, i32), CompileError> {
    libraries::load(Library::Nvrtc)?;
    let (mut major, mut minor) = (0, 0);
    // SAFETY: the library is loaded, both pointers are valid.
    let status = unsafe { sys::nvrtcVersion(&mut major, &mut minor) };
    status.result().map_err(|e| CompileError::Nvrtc(e.to_string()))?;
    libraries::check_major(Library::Nvrtc, major as usize)?;
    Ok((major, minor))
}

/// Compiles a source for an architecture such as `sm_90`.
///
/// # Errors
/// If there is no compiler, or it finds fault with the source.
pub fn compile(source: &Source, architecture: &str) -> Result<Compiled, CompileError> {
    version()?;
    let fault = |log: String| CompileError::Source {
        name: source.name,
        architecture: architecture.into(),
        log,
    };
    let text = CString::new(source.text()).map_err(|e| fault(e.to_string()))?;
    let name = CString::new(format!("{}.cu", source.name)).map_err(|e| fault(e.to_string()))?;
    let program = Program(
        result::create_program(&text, Some(&name))
            .map_err(|e| CompileError::Nvrtc(e.to_string()))?,
    );
    let target = format!("--gpu-architecture={architecture}");
    let options: Vec<&str> = OPTIONS.into_iter().chain([target.as_str()]).collect();
    // SAFETY: the program lives.
    let done = unsafe { result::compile_program(program.0, &options) };
    let log = program.log();
    done.map_err(|_| fault(log.clone()))?;
    Ok(Compiled { code: program.code().map_err(|e| CompileError::Nvrtc(e.to_string()))?, log })
}

/// The machine code of a source, from the cache if it is there.
///
/// # Errors
/// As [`compile`].
pub fn cubin(
    source: &Source,
    architecture: &str,
    folder: Option<&Path>,
) -> Result<Vec<u8>, CompileError> {
    let mut hash = blake3::Hasher::new();
    for part in
        OPTIONS.into_iter().chain([architecture, &format!("{:?}", version()?), &source.text()])
    {
        hash.update(&(part.len() as u64).to_le_bytes());
        hash.update(part.as_bytes());
    }
    let key = format!("{}-{architecture}-{}.cubin", source.name, hash.finalize().to_hex());
    cache::cached(folder, &key, || Ok(compile(source, architecture)?.code))
}

struct Program(sys::nvrtcProgram);

impl Program {
    fn log(&self) -> String {
        // SAFETY: the program lives.
        let log = unsafe { result::get_program_log(self.0) }.unwrap_or_default();
        let bytes: Vec<u8> = log.into_iter().map(|c| c as u8).filter(|&c| c != 0).collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn code(&self) -> Result<Vec<u8>, result::NvrtcError> {
        let mut size = 0;
        // SAFETY: the program lives, and is given as many bytes as it asks for.
        unsafe {
            sys::nvrtcGetCUBINSize(self.0, &mut size).result()?;
            let mut code = vec![0u8; size];
            sys::nvrtcGetCUBIN(self.0, code.as_mut_ptr().cast()).result()?;
            Ok(code)
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // SAFETY: the program lives, and nobody has it after this.
        let _ = unsafe { result::destroy_program(self.0) };
    }
}
