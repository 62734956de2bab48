//! Weights between the values of a module and the files of a model folder, as the plan maps them.

mod load;
mod save;

pub use load::{ModelFiles, load};
pub use save::{file_dtype, save, saved_bytes, write_cast, write_files, write_json, write_numbers};

use crate::error::{EngineError, Result};
use crate::executor::Executor;
use plan::value::{Role, ValueId};
use plan::weights::FileTensor;
use std::collections::HashMap;

/// Bytes of a value that are cast for a file at a time, by way of f64: they stay in the cache of a core.
const BLOCK: usize = 256 << 10;

/// Returns rows and columns of a tensor; rows are its first dimension.
fn matrix(shape: &[u64]) -> (usize, usize) {
    let rows = shape.first().copied().unwrap_or(1);
    (rows as usize, shape.iter().skip(1).product::<u64>() as usize)
}

/// Fails when a weight has rows that no file tensor fills, or a piece lies outside its tensor or value.
fn check_covered(executor: &Executor, map: &[FileTensor]) -> Result<()> {
    let module = executor.module();
    let mut rows: HashMap<ValueId, u64> = HashMap::new();
    for tensor in map {
        let (mut file_rows, mut columns) = matrix(&tensor.shape);
        if tensor.transpose {
            (file_rows, columns) = (columns, file_rows);
        }
        if tensor.pieces.iter().map(|piece| piece.rows).sum::<u64>() != file_rows as u64 {
            return Err(EngineError::plan(format!(
                "the rows of `{}` are not those of its pieces",
                tensor.name
            )));
        }
        for piece in &tensor.pieces {
            let value = &module.values[piece.value.index()];
            let sizes = value.whole_sizes(&module.capacities());
            let fits = piece.file_start + piece.rows <= file_rows as u64
                && matrix(&sizes).1 == columns
                && piece.value_start + piece.rows <= matrix(&sizes).0 as u64;
            if !fits {
                return Err(EngineError::plan(format!("`{}` does not fit `{}`", tensor.name, value.name)));
            }
            *rows.entry(piece.value).or_default() += piece.rows;
        }
    }
    for (index, value) in module.values.iter().enumerate().filter(|(_, value)| value.role == Role::Weight) {
        let wanted = matrix(&value.whole_sizes(&module.capacities())).0 as u64;
        if rows.get(&ValueId(index as u32)).copied().unwrap_or(0) != wanted {
            return Err(EngineError::plan(format!("no file tensor fills all of `{}`", value.name)));
        }
    }
    Ok(())
}

fn check_finite(executor: &Executor, map: &[FileTensor]) -> Result<()> {
    for piece in map.iter().flat_map(|tensor| &tensor.pieces) {
        check_value(executor, piece.value)?;
    }
    Ok(())
}

/// Fails when a float value holds a number that is not finite.
pub fn check_value(executor: &Executor, id: ValueId) -> Result<()> {
    let value = &executor.module().values[id.index()];
    if executor.all_finite(id)? {
        return Ok(());
    }
    Err(non_finite(&value.name))
}

/// Makes the error of a trained value that is not to be saved.
pub fn non_finite(name: &str) -> EngineError {
    let message = format!("`{name}` holds a number that is not finite");
    EngineError::new("non-finite-weights", message).help("lower the learning rate and run again")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frozen::Frozen;
    use crate::tensors::Header;
    use crate::testing::{Loops, layout};
    use plan::program::Module;
    use plan::value::Dtype;
    use plan::weights::Piece;
    use std::path::Path;

    /// q [2,3] and k [1,3] from one file tensor [3,3]; t [2,4] transposed; b [4] under an alias.
    fn module(dtype: Dtype) -> (Module, Vec<FileTensor>) {
        let mut module = Module::default();
        let mut weight = |name: &str, shape: &[u64]| {
            module.value(name, dtype, Role::Weight, shape.iter().map(|&size| size.into()).collect())
        };
        let (q, k, t, b) =
            (weight("q", &[2, 3]), weight("k", &[1, 3]), weight("t", &[2, 4]), weight("b", &[4]));
        layout(&mut module);
        let piece = |value, file_start, rows| Piece { value, file_start, value_start: 0, rows };
        let tensor = |name: &str, shape: &[u64], pieces: Vec<Piece>| FileTensor {
            name: name.into(),
            aliases: vec![format!("old.{name}")],
            shape: shape.to_vec(),
            transpose: name == "t",
            pieces,
        };
        let map = vec![
            tensor("qk", &[3, 3], vec![piece(q, 0, 2), piece(k, 2, 1)]),
            tensor("t", &[4, 2], vec![piece(t, 0, 2)]),
            tensor("b", &[4], vec![piece(b, 0, 4)]),
        ];
        (module, map)
    }

    fn write_model(folder: &Path, names: [&str; 3], dtype: Dtype, shard_bytes: u64) {
        let header = |name: &str, shape: &[u64]| Header { name: name.into(), dtype, shape: shape.to_vec() };
        let tensors = vec![header(names[0], &[3, 3]), header(names[1], &[4, 2]), header(names[2], &[4])];
        write_files(folder, tensors, shard_bytes, |tensor, out| {
            let numbers: Vec<f64> = (0..tensor.shape.iter().product()).map(|i| i as f64 - 1.5).collect();
            write_numbers(tensor.dtype, &numbers, out)
        })
        .expect("written");
    }

    fn numbers(executor: &Executor, name: &str) -> Vec<f64> {
        executor.read(name).expect("there")
    }

    #[test]
    fn pieces_transposes_and_aliases_survive_both_ways() {
        for (file, value) in [(Dtype::F32, Dtype::F32), (Dtype::Bf16, Dtype::F32), (Dtype::F16, Dtype::Bf16)]
        {
            for (names, shard_bytes) in [(["qk", "t", "b"], 1 << 20), (["old.qk", "old.t", "old.b"], 20)] {
                let place = tempfile::tempdir().expect("a temporary folder");
                write_model(place.path(), names, file, shard_bytes);
                let (module, map) = module(value);
                let mut executor = Executor::new(&module, &Loops).expect("sound");
                load(&mut executor, &map, place.path()).expect("loaded");
                assert_eq!(numbers(&executor, "q"), [-1.5, -0.5, 0.5, 1.5, 2.5, 3.5]);
                assert_eq!(numbers(&executor, "k"), [4.5, 5.5, 6.5]);
                assert_eq!(numbers(&executor, "t"), [-1.5, 0.5, 2.5, 4.5, -0.5, 1.5, 3.5, 5.5]);
                let again = tempfile::tempdir().expect("a temporary folder");
                save(&executor, &map, &Frozen::default(), file.name(), again.path()).expect("saved");
                let mut second = Executor::new(&module, &Loops).expect("sound");
                load(&mut second, &map, again.path()).expect("loaded");
                for name in ["q", "k", "t", "b"] {
                    assert_eq!(numbers(&executor, name), numbers(&second, name), "{name}");
                }
            }
        }
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let place = tempfile::tempdir().expect("a temporary folder");
        write_model(place.path(), ["qk", "t", "b"], Dtype::F32, 1 << 20);
        let (module, map) = module(Dtype::F32);
        let check = |change: &dyn Fn(&mut Vec<FileTensor>), code: &str, words: &str| {
            let mut map = map.clone();
            change(&mut map);
            let mut executor = Executor::new(&module, &Loops).expect("sound");
            let error = load(&mut executor, &map, place.path()).expect_err("refused");
            assert_eq!(error.code, code);
            assert!(error.message.contains(words), "{}", error.message);
        };
        check(&|map| map[2].name = "c".into(), "missing-weight", "no tensor `c`");
        check(&|map| map[1].shape = vec![4, 2, 1], "wrong-weight-shape", "[4, 2]");
        check(&|map| map[0].shape = vec![4, 3], "broken-plan", "are not those of its pieces");
        check(&|map| map[0].pieces[1].value = map[2].pieces[0].value, "broken-plan", "does not fit");
        check(&|map| map[0].pieces[1] = map[0].pieces[0], "broken-plan", "are not those of its pieces");
    }

    #[test]
    fn a_number_that_is_not_finite_is_refused() {
        let place = tempfile::tempdir().expect("a temporary folder");
        write_model(place.path(), ["qk", "t", "b"], Dtype::F32, 1 << 20);
        let path = place.path().join("model.safetensors");
        let mut file = std::fs::read(&path).expect("read");
        let end = file.len();
        file[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
        std::fs::write(&path, file).expect("written");
        let (module, map) = module(Dtype::F32);
        let mut executor = Executor::new(&module, &Loops).expect("sound");
        let error = load(&mut executor, &map, place.path()).expect_err("refused");
        assert_eq!(error.code, "non-finite-weights");
        assert!(error.message.contains("model.safetensors is NaN at element"), "{}", error.message);
    }

    /// What is finite as it was computed may be too large for the dtype of the file.
    #[test]
    fn a_number_too_large_for_its_file_is_not_saved() {
        let place = tempfile::tempdir().expect("a temporary folder");
        write_model(place.path(), ["qk", "t", "b"], Dtype::F32, 1 << 20);
        let path = place.path().join("model.safetensors");
        let mut file = std::fs::read(&path).expect("read");
        let end = file.len();
        file[end - 4..].copy_from_slice(&70_000f32.to_le_bytes());
        std::fs::write(&path, file).expect("written");
        let (module, map) = module(Dtype::F32);
        let mut executor = Executor::new(&module, &Loops).expect("sound");
        load(&mut executor, &map, place.path()).expect("finite");
        let saved = |dtype| save(&executor, &map, &Frozen::default(), dtype, place.path());
        let error = saved("f16").expect_err("it ends at 65,504");
        assert_eq!(error.code, "non-finite-weights");
        assert!(error.message.contains("`t` holds a number that is too large for f16"), "{}", error.message);
        saved("bf16").expect("it ends at 3.4e38");
    }

    #[test]
    fn an_index_names_files_of_its_own_folder() {
        let place = tempfile::tempdir().expect("a temporary folder");
        let index = place.path().join("model.safetensors.index.json");
        for bad in [r#"{"weight_map": {"a": "../x.safetensors"}}"#, r#"{"weight_map": {}}"#, "{"] {
            std::fs::write(&index, bad).expect("written");
            assert_eq!(ModelFiles::open(place.path()).expect_err("refused").code, "broken-safetensors");
        }
    }
}
