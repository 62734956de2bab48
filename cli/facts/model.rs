//! A model: its config, and the names, shapes and types of its weights.

use super::files::json;
use super::tokenizer::own_template;
use lang::facts::{ModelFact, TensorFact};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Looks into a model folder: config.json, headers of the weights, generation_config.json, its chat template.
pub(super) fn model(folder: &str) -> ModelFact {
    let path = Path::new(folder);
    let mut fact = ModelFact {
        config: Value::Null,
        tensors: None,
        weight_files: Vec::new(),
        generation_config: None,
        chat_template: own_template(path).map(|(text, _)| text),
        partial: false,
        pickled: None,
        problem: None,
    };
    match json(&path.join("config.json")) {
        Ok(Some(config)) => fact.config = config,
        Ok(None) if path.is_dir() => fact.problem = Some("there is no config.json in it".into()),
        Ok(None) => fact.problem = Some("there is no such folder".into()),
        Err(problem) => fact.problem = Some(problem),
    }
    fact.generation_config = json(&path.join("generation_config.json")).ok().flatten();
    if fact.problem.is_none() {
        match weight_files(path) {
            Ok(files) => read_headers(files, &mut fact),
            Err(problem) => {
                fact.pickled = pickled(path);
                fact.problem = Some(problem);
            }
        }
    }
    fact
}

/// Returns the first file of pickled weights in a folder.
fn pickled(folder: &Path) -> Option<String> {
    let names = fs::read_dir(folder).ok()?.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let is_pickle = |name: &String| {
        [".bin", ".pt", ".pth", ".ckpt"].iter().any(|end| name.ends_with(end)) && name != "training_args.bin"
    };
    names.filter(is_pickle).min()
}

/// Returns the safetensors files of a folder: one, or those of its index.
fn weight_files(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let single = folder.join("model.safetensors");
    if single.is_file() {
        return Ok(vec![single]);
    }
    let index = json(&folder.join("model.safetensors.index.json"))?;
    let Some(map) = index.as_ref().and_then(|index| index.get("weight_map")).and_then(Value::as_object)
    else {
        return Err(
            "there are no weights in it: neither model.safetensors nor model.safetensors.index.json".into()
        );
    };
    let mut names: Vec<&str> = map.values().filter_map(Value::as_str).collect();
    names.sort_unstable();
    names.dedup();
    Ok(names.into_iter().map(|name| folder.join(name)).collect())
}

fn read_headers(files: Vec<PathBuf>, fact: &mut ModelFact) {
    let mut tensors = BTreeMap::new();
    for (index, file) in files.iter().enumerate() {
        match header(file) {
            Ok(header) => tensors.extend(header.into_iter().map(|(name, mut tensor)| {
                tensor.file = index as u32;
                (name, tensor)
            })),
            Err(problem) => fact.problem = Some(format!("{}: {problem}", file.display())),
        }
        fact.weight_files.push(file.display().to_string());
    }
    fact.tensors = Some(tensors);
}

/// Reads the header of a safetensors file and checks that the file is as long as the header says.
fn header(file: &Path) -> Result<BTreeMap<String, TensorFact>, String> {
    let mut reader = fs::File::open(file).map_err(|error| error.to_string())?;
    let length = reader.metadata().map_err(|error| error.to_string())?.len();
    let mut size = [0; 8];
    reader.read_exact(&mut size).map_err(|_| "it is shorter than a safetensors header".to_owned())?;
    let size = u64::from_le_bytes(size);
    if size > length.saturating_sub(8) || size > 100 << 20 {
        return Err(format!(
            "its header says that it is {size} bytes long, but the file has {length}: it is cut off or not safetensors"
        ));
    }
    let mut text = vec![0; size as usize];
    reader.read_exact(&mut text).map_err(|error| error.to_string())?;
    let header: Value =
        serde_json::from_slice(&text).map_err(|error| format!("its header is not JSON: {error}"))?;
    let entries = header.as_object().ok_or("its header is not an object")?;
    let mut tensors = BTreeMap::new();
    for (name, entry) in entries.iter().filter(|(name, _)| *name != "__metadata__") {
        let numbers = |key: &str| -> Option<Vec<u64>> {
            entry.get(key)?.as_array()?.iter().map(Value::as_u64).collect()
        };
        let (Some(dtype), Some(shape), Some(offsets)) =
            (entry.get("dtype").and_then(Value::as_str), numbers("shape"), numbers("data_offsets"))
        else {
            return Err(format!("tensor `{name}` lacks dtype, shape or data_offsets"));
        };
        if offsets.get(1).is_none_or(|&end| end > length - 8 - size) {
            return Err(format!("tensor `{name}` ends behind the file's end: the file is cut off"));
        }
        tensors.insert(name.clone(), TensorFact { dtype: dtype.to_owned(), shape, file: 0 });
    }
    Ok(tensors)
}
