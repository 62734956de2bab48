//! The fuzzer itself: it finds what it is there to find, and finds nothing in the compiler in a short run.

use std::path::Path;
use std::process::{Command, Output};

fn fuzz(arguments: &[&str]) -> (Output, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_fuzz")).args(arguments).output().expect("it starts");
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (output, said)
}

fn path(path: &Path) -> &str {
    path.to_str().expect("temporary folders have plain names")
}

#[test]
fn every_kind_of_fault_is_found_and_its_input_saved() {
    let folder = tempfile::tempdir().expect("there is room");
    let faults = [
        ("panics", "own: panic at "),
        ("lies", "own: a lie: "),
        ("lingers", "own: too slow: "),
        ("overflows", "own: stack overflow: "),
        ("hangs", "own: hangs: "),
    ];
    // Each in a run of its own: what kills a worker would use up the inputs of the others.
    for (word, finding) in faults {
        let (corpus, save) = (folder.path().join(word), folder.path().join(format!("{word}-found")));
        std::fs::create_dir_all(corpus.join("own")).expect("there is room");
        std::fs::write(corpus.join("own").join(word), format!("it {word} here\n")).expect("there is room");
        let arguments = ["--target", "own", "--inputs", "2", "--limit", "0.15"];
        let (output, said) =
            fuzz(&[&arguments[..], &["--corpus", path(&corpus), "--save", path(&save)]].concat());
        assert_eq!(output.status.code(), Some(1), "{word}: {said}");
        let line = said.lines().find(|line| line.starts_with(finding));
        let saved =
            line.and_then(|line| line.rsplit(": ").next()).unwrap_or_else(|| panic!("{word}: {said}"));
        let input = std::fs::read_to_string(saved).expect("the input is saved");
        assert!(input.contains(word), "{input}");
    }
    let corpus = folder.path().join("lies");
    let replayed = fuzz(&["--target", "own", "--limit", "0.15", path(&corpus.join("own/lies"))]);
    assert!(replayed.1.contains("a lie") && replayed.0.status.code() == Some(1), "{}", replayed.1);
}

#[test]
fn a_short_run_finds_nothing() {
    let folder = tempfile::tempdir().expect("there is room");
    // The limit is for an optimised build.
    let (output, said) = fuzz(&["--inputs", "1500", "--limit", "60", "--save", path(folder.path())]);
    assert!(output.status.success(), "{said}");
    assert!(said.contains(" inputs with seed 1, 0 findings"), "{said}");
}
