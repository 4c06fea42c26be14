//! The calls that are made of NCCL: against a library of the same functions that runs here
//! (nccl_stand_in.c), against nccl.h, and of NCCL itself as far as it goes without a GPU.

use super::{super::emulated::compiler, *};
use crate::backend::cuda::driver::libraries;
use std::{path::Path, process::Command, thread};

/// Where the stand-in's stream is.
const STREAM: usize = 0x5717;

/// Builds the stand-in as C, with more options; what the compiler says if it cannot.
fn build(to: &Path, options: &[String]) -> std::result::Result<(), String> {
    let source = to.with_extension("c");
    std::fs::write(&source, include_str!("nccl_stand_in.c")).unwrap();
    let mut command = Command::new(compiler().unwrap());
    command.args(["-x", "c", "-std=gnu11", "-fPIC", "-shared", "-pthread", "-w"]);
    let out = command.args(options).arg(&source).arg("-o").arg(to).output().unwrap();
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    if out.status.success() { Ok(()) } else { Err(said) }
}

fn nccl(path: &Path) -> Rc<Nccl> {
    // SAFETY: the stand-in has no initialisers.
    Rc::new(Nccl::of(unsafe { Library::new(path) }.unwrap()).unwrap())
}

/// Lets each of two ranks work with a communicator.
fn two<T: Send + 'static>(path: &Path, work: fn(usize, Communicator) -> T) -> [T; 2] {
    let id = nccl(path).id().unwrap();
    let all = [0, 1].map(|rank| {
        let path = path.to_owned();
        thread::spawn(move || {
            let stream = STREAM as Handle;
            // SAFETY: the stand-in only compares the stream.
            let comm = unsafe { Communicator::join(nccl(&path), stream, id, (rank, 2)) };
            work(rank, comm.unwrap())
        })
    });
    all.map(|rank| rank.join().unwrap())
}

/// One exchange with the other of two ranks.
fn swap(rank: usize, comm: &Communicator, send: &[u32], receive: usize) -> Result<Vec<u32>> {
    let mut back = vec![0_u32; receive];
    let of = |at: *const u32, words| [Piece { rank: 1 - rank, at: at as u64, words }];
    // SAFETY: so many words, which stay until the exchange is done: the stand-in's is at its end.
    unsafe { comm.exchange(&of(send.as_ptr(), send.len()), &of(back.as_mut_ptr(), receive)) }?;
    comm.check().map(|()| back)
}

#[test]
fn a_library_is_called_as_it_demands() {
    if compiler().is_none() {
        eprintln!("skipped: no compiler");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("libstandin.so");
    build(&path, &[]).unwrap();
    assert_eq!(nccl(&path).version(), "2.28.9");
    let got = two(&path, |rank, comm| {
        let first = swap(rank, &comm, &[[1, 2, 3], [7, 8, 9]][rank], 3).unwrap();
        let second = swap(rank, &comm, &[[5], [6]][rank], 1).unwrap();
        (first, second)
    });
    assert_eq!(got, [(vec![7, 8, 9], vec![6]), (vec![1, 2, 3], vec![5])]);
    let refused = two(&path, |rank, comm| {
        // To itself; the group is ended all the same, and another one can begin.
        let own = [Piece { rank, at: 8, words: 1 }];
        // SAFETY: the stand-in refuses it.
        let refused = unsafe { comm.exchange(&own, &[]) }.unwrap_err().to_string();
        let good = swap(rank, &comm, &[4], 1).unwrap();
        let failed = swap(rank, &comm, &[1, 2][..2 - rank], 2).map_err(|e| e.to_string());
        comm.abort();
        let after = comm.check().unwrap_err().to_string();
        (refused, good, failed, after)
    });
    for (refused, good, _, after) in &refused {
        assert_eq!(
            refused,
            "NCCL 2.28.9: ncclSend failed: invalid argument (NCCL_DEBUG=WARN says more)"
        );
        assert_eq!((good, after.as_str()), (&vec![4], "NCCL's communicator was given up"));
    }
    // One word is sent where two are expected.
    let failed = refused[0].2.as_ref().unwrap_err();
    assert!(failed.contains("an exchange failed: remote process exited"), "{failed}");
    // SAFETY: the stand-in has such a function.
    let alive = unsafe {
        let library = Library::new(&path).unwrap();
        library.get::<unsafe extern "C" fn() -> c_int>(b"stand_in_alive\0").unwrap()()
    };
    assert_eq!(alive, 0, "communicators that were not given back");
}

#[test]
fn what_is_called_is_what_the_header_declares() {
    let (Some(header), Some(_)) = (libraries::nccl_header(), compiler()) else {
        eprintln!("skipped: no nccl.h beside a library of NCCL's, or no compiler");
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    for empty in ["cuda_fp16.h", "cuda_bf16.h", "cuda_fp8.h"] {
        std::fs::write(dir.path().join(empty), "").unwrap();
    }
    // What nccl.h takes of CUDA's.
    let types =
        "typedef struct CUstream_st* cudaStream_t;\ntypedef struct CUevent_st* cudaEvent_t;\n";
    std::fs::write(dir.path().join("cuda_runtime.h"), types).unwrap();
    let options =
        [format!("-I{}", dir.path().display()), format!("-DNCCL_HEADER=\"{}\"", header.display())];
    build(&dir.path().join("libstandin.so"), &options).unwrap();
}

/// Needs no GPU, but the library.
#[test]
fn nccl_itself_says_its_version_and_makes_ids() {
    let nccl = match library() {
        Ok(nccl) => nccl,
        Err(e) => {
            assert!(e.to_string().starts_with("cannot find libnccl.so.2: "), "{e}");
            eprintln!("skipped: {e}");
            return;
        }
    };
    assert!(nccl.version().starts_with("2."), "{}", nccl.version());
    let [a, b] = [nccl.id().unwrap(), nccl.id().unwrap()];
    assert!(a != b && a != [0; ID_BYTES], "{a:?}");
}
