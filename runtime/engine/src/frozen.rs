//! Tensors that a stage leaves as they are: from the files of its start to those of its result.
//!
//! They do not pass through the values of the program, whose dtype may be narrower than that of the files:
//! where the result has the dtype of the start their bytes are the same.

use crate::error::Result;
use crate::executor::{masters, written};
use crate::tensors;
use crate::weights::{ModelFiles, write_cast};
use plan::program::Module;
use plan::value::{Dtype, Role, ValueId};
use plan::weights::FileTensor;
use std::collections::{HashMap, HashSet};
use std::io::Write;
use std::path::Path;

/// Bytes of a tensor that are in memory at once.
const BLOCK: usize = 256 << 10;

/// The frozen tensors of a stage and the files that hold them.
#[derive(Debug, Default)]
pub struct Frozen<'a> {
    tensors: HashMap<&'a str, &'a FileTensor>,
    files: Option<ModelFiles>,
}

impl<'a> Frozen<'a> {
    /// Finds the tensors of which the update of a module writes no value, and opens the files of the start.
    ///
    /// # Errors
    /// Fails when there are such tensors and the files cannot be read.
    pub fn open(module: &Module, map: &'a [FileTensor], start: &Path) -> Result<Self> {
        let update = module.program("update");
        let written = update.map_or(Vec::new(), |p| written(p, module, &[Role::Weight, Role::Master]));
        let mut changed: HashSet<ValueId> = written.into_iter().collect();
        for (weight, master) in masters(module) {
            if changed.contains(&master) {
                changed.insert(weight);
            }
        }
        let frozen = map.iter().filter(|tensor| tensor.pieces.iter().all(|p| !changed.contains(&p.value)));
        let tensors: HashMap<_, _> = frozen.map(|tensor| (tensor.name.as_str(), tensor)).collect();
        let files = if tensors.is_empty() { None } else { Some(ModelFiles::open(start)?) };
        Ok(Frozen { tensors, files })
    }

    /// Writes a tensor as the files have it, in another dtype if need be; returns whether it is frozen.
    pub fn write(&self, name: &str, dtype: Dtype, out: &mut dyn Write) -> std::io::Result<bool> {
        let (Some(tensor), Some(files)) = (self.tensors.get(name), &self.files) else { return Ok(false) };
        self.copy(tensor, files, dtype, out)?;
        Ok(true)
    }

    fn copy(
        &self,
        tensor: &FileTensor,
        files: &ModelFiles,
        dtype: Dtype,
        out: &mut dyn Write,
    ) -> std::io::Result<()> {
        let failed = |error: crate::error::EngineError| std::io::Error::other(error.message);
        let (file, info) = files.find(tensor).map_err(failed)?;
        let from = tensors::dtype(info.dtype).expect("loading has refused other dtypes");
        let length = info.data_offsets.1 - info.data_offsets.0;
        let mut buffer = vec![0; length.min(BLOCK)];
        for start in (0..length).step_by(BLOCK) {
            let block = &mut buffer[..BLOCK.min(length - start)];
            file.read(info, start as u64, block).map_err(failed)?;
            write_cast(from, block, dtype, out)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::executor::Executor;
    use crate::testing::{Loops, training_module};
    use crate::weights::{load, save, write_files, write_numbers};
    use plan::weights::Piece;

    /// The weight `w` of the module is trained, `still` beside it is not, and lies in bf16.
    fn module() -> (Module, Vec<FileTensor>) {
        let mut module = training_module();
        let still = module.value("still", Dtype::Bf16, Role::Weight, vec![3.into()]);
        let w = module.named("w").expect("there");
        crate::testing::layout(&mut module);
        let tensor = |name: &str, shape: &[u64], value| FileTensor {
            name: name.into(),
            aliases: vec![format!("old.{name}")],
            shape: shape.to_vec(),
            transpose: false,
            pieces: vec![Piece { value, file_start: 0, value_start: 0, rows: shape[0] }],
        };
        (module, vec![tensor("w", &[8, 4], w), tensor("still", &[3], still)])
    }

    /// Numbers that bf16 cannot hold survive a stage whose values are bf16.
    #[test]
    fn frozen_tensors_keep_the_bytes_of_the_start() {
        let (module, map) = module();
        let start = tempfile::tempdir().expect("a temporary folder");
        let headers = map.iter().map(|tensor| tensors::Header {
            name: format!("old.{}", tensor.name),
            dtype: Dtype::F32,
            shape: tensor.shape.clone(),
        });
        write_files(start.path(), headers.collect(), 1 << 20, |tensor, out| {
            let count = tensor.shape.iter().product::<u64>();
            let numbers: Vec<f64> = (0..count).map(|i| 1.0 + i as f64 / 1000.0).collect();
            write_numbers(tensor.dtype, &numbers, out)
        })
        .expect("written");
        let mut executor = Executor::new(&module, &Loops).expect("sound");
        load(&mut executor, &map, start.path()).expect("loaded");
        let frozen = Frozen::open(&module, &map, start.path()).expect("opened");
        let numbers = |dtype: &str| {
            let result = tempfile::tempdir().expect("a temporary folder");
            save(&executor, &map, &frozen, dtype, result.path()).expect("saved");
            let files = ModelFiles::open(result.path()).expect("sound");
            let (file, info) = files.find(&map[1]).expect("there");
            let mut bytes = vec![0; info.data_offsets.1 - info.data_offsets.0];
            file.read(info, 0, &mut bytes).expect("read");
            let mut numbers = Vec::new();
            tensors::decode(tensors::dtype(info.dtype).expect("a float"), &bytes, &mut numbers);
            numbers
        };
        assert_eq!(numbers("f32"), [1.0, 1.001, 1.002].map(|x: f32| f64::from(x)));
        assert_eq!(numbers("f16"), [1.0, 1.001, 1.002].map(|x| half::f16::from_f64(x).to_f64()));
    }
}
