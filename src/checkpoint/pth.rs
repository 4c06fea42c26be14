//! Models in PyTorch's format (`torch.save`, since 1.6): a zip with a pickle in it. facebookresearch/dlrm
//! writes a dictionary whose `state_dict` has the parameters (dlrm_s_pytorch.py, `--save-model`); a file
//! that is nothing but a `state_dict` is read as well.

use super::{CheckpointError, Tensors};
use candle_core::{DType, Tensor, pickle::PthTensors};
use std::path::Path;

/// What facebook's program calls the parameters.
const PARAMETERS: &str = "state_dict";

/// Reads all tensors of a file, as f32.
pub(super) fn read(path: &Path) -> Result<Tensors, CheckpointError> {
    let damaged = |what: String| CheckpointError::Damaged { path: path.to_owned(), what };
    std::fs::File::open(path)
        .map_err(|source| CheckpointError::Read { path: path.to_owned(), source })?;
    let open = |key| PthTensors::new(path, key);
    let file = open(Some(PARAMETERS)).or_else(|_| open(None)).map_err(|e| {
        damaged(format!(
            "is no file of torch.save that can be read ({}); files from before torch 1.6 are to be saved again with a newer one",
            first_line(&e)
        ))
    })?;
    let mut names: Vec<&String> = file.tensor_infos().keys().collect();
    names.sort();
    if names.is_empty() {
        return Err(damaged("holds no tensors".to_owned()));
    }
    let mut all = Tensors::default();
    for name in names {
        let values = |tensor: &Tensor| tensor.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>();
        let tensor = file.get(name).map_err(|e| damaged(format!("{name}: {}", first_line(&e))))?;
        let Some(tensor) = tensor else { continue };
        let values = values(&tensor).map_err(|e| damaged(format!("{name}: {}", first_line(&e))))?;
        all.add(name.clone(), tensor.dims().to_vec(), &values);
    }
    Ok(all)
}

/// candle's errors may have a backtrace behind them.
fn first_line(e: &candle_core::Error) -> String {
    e.to_string().lines().next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    fn shared(name: &str) -> Option<PathBuf> {
        let path = Path::new("../shared/reference/facebook_pt").join(name);
        if !path.exists() {
            eprintln!("skipped: {} is missing", path.display());
            return None;
        }
        Some(path)
    }

    #[test]
    fn parameters_of_facebooks_program_are_read() {
        for name in ["facebook_sgd.pt", "facebook_adagrad.pt", "facebook_rwsadagrad.pt"] {
            let Some(path) = shared(name) else { return };
            let all = read(&path).unwrap();
            let shape = |name: &str| all.get(name).unwrap().shape.to_vec();
            assert_eq!(
                (shape("emb_l.0.weight"), shape("emb_l.3.weight")),
                (vec![40, 16], vec![1, 16])
            );
            assert_eq!((shape("bot_l.0.weight"), shape("bot_l.2.bias")), (vec![8, 13], vec![16]));
            assert_eq!((shape("top_l.0.weight"), shape("top_l.4.bias")), (vec![8, 26], vec![1]));
            assert_eq!(all.names().count(), 14);
        }
    }

    #[test]
    fn what_is_none_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.pt");
        std::fs::write(&path, "no zip").unwrap();
        let told = read(&path).unwrap_err().to_string();
        assert!(
            told.contains("x.pt: is no file of torch.save") && told.lines().count() == 1,
            "{told}"
        );
        if let Some(old) = shared("facebook_sgd_legacy.pt") {
            let told = read(&old).unwrap_err().to_string();
            assert!(told.contains("before torch 1.6"), "{told}");
        }
        assert!(matches!(read(&dir.path().join("none.pt")), Err(CheckpointError::Read { .. })));
    }
}
