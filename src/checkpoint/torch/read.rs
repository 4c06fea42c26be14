//! Reads models in PyTorch's format: facebook's dictionary, or a file that is nothing but a
//! `state_dict`. Numbers stay in the file, which is mapped.

use super::{
    super::{CheckpointError, Form, Tensors},
    Counters, OPTIMIZER, PARAMETERS, STATE_WORDS, is_trained,
    object::{get, number, pairs},
};
use crate::host::MappedFile;
use candle_core::{
    DType, Tensor,
    pickle::{Object, PthTensors, Stack},
};
use serde_json::{Value, json};
use std::{
    fs::File,
    io::BufReader,
    path::{Path, PathBuf},
};
use zip::{CompressionMethod, ZipArchive};

/// Reads a file: all tensors, those of the optimizer's state called as a checkpoint calls them, and
/// what of a checkpoint's progress it knows (`rule`, `engine.updates`; facebook's counters as `facebook`).
pub(in crate::checkpoint) fn read(path: &Path) -> Result<(Tensors, Value), CheckpointError> {
    let mut reader = Reader::open(path)?;
    let root = reader.pickle()?;
    let (key, parameters) = match get(&root, PARAMETERS) {
        Some(parameters) => (Some(PARAMETERS), parameters),
        None => (None, &root),
    };
    let mut names = Vec::new();
    for (name, value) in pairs(parameters) {
        let Object::Unicode(name) = name else { continue };
        if let Some(storage) = reader.tensor(name, value, name, None, key)? {
            names.push((storage, name.clone()));
        }
    }
    if names.is_empty() {
        return Err(reader.damaged("holds no tensors".to_owned()));
    }
    // candle's dictionaries have lost their order; storages are numbered in it
    // (torch/serialization.py, `persistent_id`).
    names.sort();
    let names: Vec<String> = names.into_iter().map(|(_, n)| n).filter(|n| is_trained(n)).collect();
    let mut progress = json!({});
    if let Some(optimizer) = get(&root, OPTIMIZER) {
        reader.optimizer(optimizer, &names, &mut progress)?;
    }
    if let Some(counters) = counters(&root) {
        progress["facebook"] = json!(counters);
    }
    Ok((reader.all, progress))
}

/// Facebook's counters, if the dictionary has them.
fn counters(root: &Object) -> Option<Counters> {
    let of = |key| get(root, key).and_then(number);
    let whole = |key| of(key).map(|n| n as i64);
    let known = |key| of(key).filter(|x: &f64| x.is_finite());
    Some(Counters {
        nepochs: whole("nepochs")?,
        nbatches: whole("nbatches")?,
        nbatches_test: whole("nbatches_test").unwrap_or(0),
        epoch: whole("epoch")?,
        iter: whole("iter")?,
        train_loss: known("train_loss"),
        total_loss: known("total_loss"),
        test_acc: known("test_acc"),
    })
}

/// A file that is being read.
struct Reader<'a> {
    path: &'a Path,
    zip: ZipArchive<BufReader<File>>,
    /// The folder in the zip, `/data` behind it.
    data: PathBuf,
    /// Name of the pickle in the zip.
    pickle: String,
    /// The file's bytes among those of `all`.
    file: usize,
    all: Tensors,
}

impl<'a> Reader<'a> {
    fn open(path: &'a Path) -> Result<Self, CheckpointError> {
        let unreadable = |source| CheckpointError::Read { path: path.to_owned(), source };
        let file = File::open(path).map_err(unreadable)?;
        let no_zip = |e: &dyn std::fmt::Display| CheckpointError::Damaged {
            path: path.to_owned(),
            what: no_file(e),
        };
        let zip = ZipArchive::new(BufReader::new(file)).map_err(|e| no_zip(&e))?;
        let mut all = zip.file_names().filter_map(|n| Some(n.ok()?.into_owned()));
        let pickle = all.find(|name| name.ends_with("/data.pkl"));
        drop(all);
        let pickle = pickle.ok_or_else(|| no_zip(&"a zip without data.pkl"))?;
        let data = PathBuf::from(pickle.trim_end_matches(".pkl"));
        let mut all = Tensors::default();
        let file = all.map(MappedFile::open(path).map_err(unreadable)?);
        Ok(Reader { path, zip, data, pickle, file, all })
    }

    fn damaged(&self, what: String) -> CheckpointError {
        CheckpointError::Damaged { path: self.path.to_owned(), what }
    }

    fn pickle(&mut self) -> Result<Object, CheckpointError> {
        let path = self.path;
        let damaged = |e: &dyn std::fmt::Display| CheckpointError::Damaged {
            path: path.to_owned(),
            what: no_file(e),
        };
        let entry = self.zip.by_name(&self.pickle).map_err(|e| damaged(&e))?;
        let mut stack = Stack::empty();
        stack.read_loop(&mut BufReader::new(entry)).map_err(|e| damaged(&e))?;
        stack.finalize().map_err(|e| damaged(&e))
    }

    /// Takes a tensor as `name`, in this shape if it is another than it has in the file; the number of
    /// its storage, or `None` if it is no tensor. One that is not stored number by number is read by candle, which finds it below
    /// `key` as `inner`.
    fn tensor(
        &mut self,
        name: &str,
        value: &Object,
        inner: &str,
        shape: Option<Vec<usize>>,
        key: Option<&str>,
    ) -> Result<Option<u64>, CheckpointError> {
        let info = value.clone().into_tensor_info(Object::Unicode(name.to_owned()), &self.data);
        // Tensors of other types are passed over, as in safetensors.
        let Ok(Some(info)) = info else { return Ok(None) };
        let dims = info.layout.dims().to_vec();
        let form = match info.dtype {
            DType::F32 => Some(Form::F32),
            DType::BF16 => Some(Form::Bf16),
            DType::F16 => Some(Form::F16),
            _ => None,
        };
        let (entry, stored) = {
            let path = self.path;
            let entry = self.zip.by_name(&info.path).map_err(|e| CheckpointError::Damaged {
                path: path.to_owned(),
                what: format!("{name}: {}", first_line(&e)),
            })?;
            let stored = entry.compression() == CompressionMethod::Stored;
            (entry.data_start().map(|at| (at, entry.size())), stored)
        };
        match (form, entry) {
            (Some(form), Some((at, size))) if stored && info.layout.is_contiguous() => {
                let begin = info.layout.start_offset();
                let bytes = dims.iter().try_fold(form.bytes(), |n, &d| n.checked_mul(d));
                let end = bytes.and_then(|n| n.checked_add(begin));
                if end.is_none_or(|end| end as u64 > size) {
                    return Err(self.damaged(format!("{name} ends behind its numbers")));
                }
                let at = at as usize + begin;
                let shape = shape.unwrap_or(dims);
                if !self.all.place(name.to_owned(), self.file, form, shape, at) {
                    return Err(self.damaged(format!("{name} ends behind the file")));
                }
            }
            _ => {
                let values = self.through_candle(name, inner, key)?;
                self.all.add(name.to_owned(), shape.unwrap_or(dims), &values);
            }
        }
        let number = info.path.rsplit('/').next().and_then(|key| key.parse().ok());
        Ok(Some(number.unwrap_or(u64::MAX)))
    }

    /// Numbers of a tensor of other types, or that does not lie row by row.
    fn through_candle(
        &self,
        name: &str,
        inner: &str,
        key: Option<&str>,
    ) -> Result<Vec<f32>, CheckpointError> {
        let damaged =
            |e: &dyn std::fmt::Display| self.damaged(format!("{name}: {}", first_line(e)));
        let file = PthTensors::new(self.path, key).map_err(|e| damaged(&e))?;
        let tensor = file.get(inner).map_err(|e| damaged(&e))?;
        let tensor = tensor.ok_or_else(|| damaged(&"is kept in a way that cannot be read"))?;
        let values = |tensor: &Tensor| tensor.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>();
        values(&tensor).map_err(|e| damaged(&e))
    }

    /// Takes the optimizer's state, whose parameters are numbered as in `names`.
    fn optimizer(
        &mut self,
        optimizer: &Object,
        names: &[String],
        progress: &mut Value,
    ) -> Result<(), CheckpointError> {
        let states = get(optimizer, "state").map(pairs).unwrap_or_default();
        let any = |word| states.iter().any(|(_, state)| get(state, word).is_some());
        let rule = match () {
            // What torch's SGD keeps with momentum no rule here has.
            () if states.is_empty() && sgd(optimizer) => "sgd",
            () if any("momentum") => "rowwise_adagrad",
            () if any("exp_avg") && !any("max_exp_avg_sq") => "adam",
            () if any("sum") => "adagrad",
            () => return Ok(()),
        };
        let mut updates = 0.0f64;
        for (number_of, state) in states {
            let index = number(number_of).map(|n| n as usize);
            let Some(name) = index.and_then(|i| names.get(i)) else {
                let what = format!(
                    "{OPTIMIZER} has state of a parameter {number_of:?}, which {PARAMETERS} lacks"
                );
                return Err(self.damaged(what));
            };
            for word in STATE_WORDS.iter().filter(|word| word.rule == rule) {
                let Some(value) = get(state, word.torch) else { continue };
                let ours = format!("{name}.{}", word.ours);
                let shape = (word.tables == Some(true)).then(|| {
                    let rows =
                        self.all.get(name).map_or(0, |v| v.shape.first().copied().unwrap_or(0));
                    vec![rows, 1]
                });
                if self.tensor(&ours, value, &ours, shape, None)?.is_none() {
                    return Err(
                        self.damaged(format!("{OPTIMIZER}: {} of {name} is no tensor", word.torch))
                    );
                }
            }
            updates = updates.max(self.step(state)?);
        }
        progress["rule"] = json!(rule);
        progress["engine"] = json!({"updates": updates as u64});
        Ok(())
    }

    /// The number of updates beside a parameter: a number, or a tensor of one.
    fn step(&mut self, state: &Object) -> Result<f64, CheckpointError> {
        const STEP: &str = "step";
        let Some(step) = get(state, STEP) else { return Ok(0.0) };
        if let Some(n) = number(step) {
            return Ok(n);
        }
        let taken = self.tensor(STEP, step, STEP, Some(vec![1]), None)?;
        let mut n = [0.0];
        if let Some(view) = self.all.get(STEP).filter(|_| taken.is_some()) {
            view.copy(0, &mut n);
        }
        self.all.remove(STEP);
        Ok(n[0].into())
    }
}

/// Whether an optimizer without state is torch's SGD.
fn sgd(optimizer: &Object) -> bool {
    match get(optimizer, "param_groups") {
        Some(Object::List(groups)) => groups.iter().all(|g| {
            let off = |key| get(g, key).and_then(number).is_some_and(|x| x == 0.0);
            off("momentum") && off("weight_decay") && get(g, "nesterov").is_some()
        }),
        _ => false,
    }
}

fn no_file(e: &dyn std::fmt::Display) -> String {
    format!(
        "is no file of torch.save that can be read ({}); files from before torch 1.6 are to be saved again with a newer one",
        first_line(e)
    )
}

/// candle's errors may have a backtrace behind them.
fn first_line(e: &dyn std::fmt::Display) -> String {
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
            let (all, progress) = read(&path).unwrap();
            let shape = |name: &str| all.get(name).unwrap().shape.to_vec();
            assert_eq!(
                (shape("emb_l.0.weight"), shape("emb_l.3.weight")),
                (vec![40, 16], vec![1, 16])
            );
            assert_eq!((shape("bot_l.0.weight"), shape("bot_l.2.bias")), (vec![8, 13], vec![16]));
            assert_eq!((shape("top_l.0.weight"), shape("top_l.4.bias")), (vec![8, 26], vec![1]));
            let rule = progress["rule"].as_str().unwrap();
            assert_eq!(rule.replace("rowwise_adagrad", "rwsadagrad"), name[9..name.len() - 3]);
            assert_eq!(all.names().count(), if rule == "sgd" { 14 } else { 28 });
            if rule != "sgd" {
                let word = if rule == "adagrad" { "sum_of_squares" } else { "sum_of_mean_squares" };
                let rows = if rule == "adagrad" { vec![40, 16] } else { vec![40, 1] };
                assert_eq!(shape(&format!("emb_l.0.weight.{word}")), rows);
                assert_eq!(shape(&format!("bot_l.0.weight.{word}")), [8, 13]);
                assert_eq!(progress["engine"]["updates"], 6);
            }
            let about = &progress["facebook"];
            assert_eq!(
                (&about["epoch"], &about["iter"], &about["nbatches"]),
                (&json!(0), &json!(6), &json!(6))
            );
            // A scalar of numpy's, f32.
            let loss = about["train_loss"].as_f64().unwrap();
            assert!((0.6..0.8).contains(&loss) && loss == f64::from(loss as f32), "{loss}");
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
