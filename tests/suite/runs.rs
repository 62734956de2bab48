//! Whole runs through the command: what is written, what runs again, what survives.

use crate::workshop::{Ran, Workshop};
use std::path::{Path, PathBuf};
use std::time::Duration;

const STAGES: [&str; 3] = ["dutch", "chat", "aligned"];

#[test]
fn a_run_writes_what_the_contract_lists_and_a_second_one_does_nothing() {
    let shop = Workshop::new();
    let first = shop.ok(&["run", "tiny.kdl"]);
    assert!(first.stdout.contains("bits per byte") && first.stdout.contains("accuracy"), "{}", first.stdout);
    for file in ["recipe.kdl", "resolved.kdl", "adapt.lock", "plan.json"] {
        assert!(shop.path(&format!("runs/tiny/{file}")).is_file(), "{file}");
    }
    for stage in STAGES {
        for file in [
            "metrics.jsonl",
            "model/config.json",
            "model/model.safetensors",
            "model/tokenizer.json",
            "model/tokenizer_config.json",
            "model/generation_config.json",
        ] {
            assert!(shop.path(&format!("runs/tiny/{stage}/{file}")).is_file(), "{stage}/{file}");
        }
        let record: serde_json::Value =
            serde_json::from_str(&shop.read(&format!("runs/tiny/{stage}/result.json"))).unwrap();
        let seconds = |name: &str| record["summary"][name].as_f64().unwrap();
        assert!(seconds("start_seconds") > 0.0, "{record}");
        assert!(seconds("start_seconds") + seconds("step_seconds") <= seconds("seconds"), "{record}");
        let step =
            &shop.metrics("runs/tiny", stage).into_iter().find(|line| line.get("loss").is_some()).unwrap();
        for key in [
            "step",
            "epoch",
            "loss",
            "lr",
            "grad_norm",
            "tokens",
            "trained_tokens",
            "seconds",
            "tokens_per_second",
        ] {
            assert!(step[key].is_number(), "{stage}: no {key} in {step}");
        }
    }
    let aligned = shop.metrics("runs/tiny", "aligned");
    assert!(aligned.iter().any(|line| line.get("margin").is_some() && line.get("accuracy").is_some()));
    let again = shop.ok(&["run", "tiny.kdl"]);
    assert!(again.stdout.contains("nothing to do"), "{}", again.stdout);

    // What was resolved is a recipe, with paths as in the one that was run.
    shop.write("resolved.kdl", &shop.read("runs/tiny/resolved.kdl"));
    shop.ok(&["check", "resolved.kdl"]);

    // What was saved carries its chat template.
    shop.write("next.kdl", NEXT);
    shop.ok(&["run", "next.kdl"]);
}

/// Goes on from a model that an earlier run has saved.
const NEXT: &str = r#"adapt 1
model tuned "runs/tiny/chat/model"
dataset talks "chat/train.jsonl" { rows chat; }
sft more { model tuned; data talks; precision f32; sequence 192; batch 4; steps 1; optimizer adamw lr=1e-4; }
"#;

#[test]
fn only_what_depends_on_a_change_runs_again() {
    let shop = Workshop::new();
    shop.ok(&["run", "tiny.kdl"]);
    let keys = || STAGES.map(|stage| shop.read(&format!("runs/tiny/{stage}/result.json")));
    let first = keys();

    // How a stage is reported is not part of its result.
    shop.edit("prompt=\"Op een dag\"", "prompt=\"Er was eens\"");
    shop.edit("checkpoint every=\"1 steps\"", "checkpoint every=\"3 steps\"");
    assert!(shop.ok(&["run", "tiny.kdl"]).stdout.contains("nothing to do"));
    assert_eq!(keys(), first);

    // Only the last stage.
    shop.edit("lr=1e-4", "lr=2e-4");
    shop.ok(&["run", "tiny.kdl"]);
    let second = keys();
    assert_eq!(second[..2], first[..2]);
    assert_ne!(second[2], first[2]);

    // What it minimises shapes the last stage as its rate does.
    shop.edit("    data choices\n", "    data choices\n    beta 0.3\n");
    shop.ok(&["run", "tiny.kdl"]);
    let with_beta = keys();
    assert_eq!(with_beta[..2], second[..2]);
    assert_ne!(with_beta[2], second[2], "`beta` is part of the key");

    // One row of the chats: from there on.
    let rows = shop.read("chat/train.jsonl").replacen("tegenovergestelde", "omgekeerde", 1);
    shop.write("chat/train.jsonl", &rows);
    shop.ok(&["run", "tiny.kdl"]);
    let third = keys();
    assert_eq!(third[0], first[0]);
    assert_ne!(third[1], second[1]);
    assert_ne!(third[2], second[2]);
}

#[test]
fn evaluation_that_is_switched_off_is_off() {
    let shop = Workshop::new();
    shop.edit("    data reader\n", "    data reader\n    evaluate none\n");
    let ran = shop.ok(&["run", "tiny.kdl", "--only", "chat"]);
    let evaluated =
        |stage| shop.metrics("runs/tiny", stage).iter().any(|line| line.get("eval_loss").is_some());
    assert_eq!(["dutch", "chat"].map(evaluated), [false, true], "{}", ran.stdout);
    assert!(!ran.stdout.contains("dutch: held-out"), "{}", ran.stdout);
}

#[test]
fn a_backend_without_a_precision_is_refused_before_anything_runs() {
    let shop = Workshop::new();
    let ran = shop.run(&["run", "tiny.kdl", "--backend", "plain", "--set", "aligned.precision=bf16"]);
    ran.failed_with(&["unsupported-op", "`aligned`", "--set aligned.precision=f32"]);
    assert!(!shop.path("runs/tiny/dutch").exists());
}

/// Kills a run at ten moments spread over its length, saving included: a checkpoint is written each step.
#[test]
fn a_killed_run_ends_with_the_same_bits() {
    let whole = Workshop::new();
    let start = std::time::Instant::now();
    whole.ok(&["run", "tiny.kdl", "--threads", "2"]);
    let length = start.elapsed();

    let shop = Workshop::new();
    // Moments that look random but are the same in each run of this test.
    let mut seed: u64 = 42;
    for attempt in 0..10 {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let share = (seed >> 40) as f64 / f64::from(1 << 24);
        let mut child = shop.start(&["run", "tiny.kdl", "--threads", ["1", "2", "3"][attempt % 3]]);
        std::thread::sleep(Duration::from_secs_f64(0.05 + share * length.as_secs_f64() / 3.0));
        child.kill().unwrap();
        child.wait().unwrap();
    }
    shop.ok(&["run", "tiny.kdl", "--threads", "1"]);
    for stage in STAGES {
        assert_eq!(shop.weights("runs/tiny", stage), whole.weights("runs/tiny", stage), "{stage}");
        let timeless = |shop: &Workshop| {
            let mut lines = shop.metrics("runs/tiny", stage);
            for line in &mut lines {
                let fields = line.as_object_mut().unwrap();
                fields.retain(|key, _| !key.contains("second"));
            }
            lines
        };
        assert_eq!(timeless(&shop), timeless(&whole), "{stage}");
    }
}

#[test]
fn a_run_that_is_asked_to_stop_writes_a_checkpoint_and_goes_on() {
    let whole = Workshop::new();
    whole.ok(&["run", "tiny.kdl"]);
    let shop = Workshop::new();
    shop.edit("steps 8", "steps 400");
    let mut child = shop.start(&["run", "tiny.kdl"]);
    let checkpoints = shop.path("runs/tiny/dutch/checkpoints");
    wait_for(|| has_checkpoint(&checkpoints));
    terminate(&child);
    assert_eq!(child.wait().unwrap().code(), Some(75));
    let last = complete_checkpoints(&checkpoints).pop().unwrap();
    let name = last.file_name().unwrap().to_str().unwrap();
    let stopped_at: u64 = name.trim_start_matches("step-").parse().unwrap();
    let child = shop.run(&["run", "tiny.kdl", "--only", "dutch"]);
    assert_eq!(child.code, Some(0), "{}", child.stderr);
    assert!(child.stderr.contains(&format!("continues after step {stopped_at}")), "{}", child.stderr);
}

/// Asks a run to stop.
fn terminate(child: &std::process::Child) {
    let pid = libc::pid_t::try_from(child.id()).unwrap();
    // SAFETY: sends a signal to a child of this process that has not been waited for.
    #[allow(unsafe_code, reason = "std has no way to send SIGTERM")]
    unsafe {
        libc::kill(pid, libc::SIGTERM);
    }
}

#[test]
fn a_run_that_stops_before_its_first_checkpoint_says_so() {
    let shop = Workshop::new();
    shop.edit("steps 8", "steps 4000");
    let child = shop.start(&["run", "tiny.kdl", "--only", "dutch"]);
    // The plan is written when signals are caught already and no task has begun.
    wait_for(|| shop.path("runs/tiny/plan.json").exists());
    terminate(&child);
    let ran = Ran::of(child.wait_with_output().unwrap());
    assert_eq!(ran.code, Some(75), "{}", ran.stderr);
    let says = ran.stderr.contains("with a checkpoint written");
    assert_eq!(says, has_checkpoint(&shop.path("runs/tiny/dutch/checkpoints")), "{}", ran.stderr);
    assert!(says || ran.stderr.contains("before anything of it was kept"), "{}", ran.stderr);
}

#[test]
fn an_edited_result_is_noted_once() {
    let shop = Workshop::new();
    shop.ok(&["run", "tiny.kdl", "--only", "dutch"]);
    let config = "runs/tiny/dutch/model/config.json";
    shop.write(config, &(shop.read(config) + " "));
    let ran = shop.ok(&["run", "tiny.kdl", "--only", "dutch"]);
    assert_eq!(ran.stderr.matches("was changed; `dutch` runs again").count(), 1, "{}", ran.stderr);
}

#[test]
fn a_place_that_cannot_be_written_is_told_with_a_way_out() {
    let shop = Workshop::new();
    let ran = shop.run(&["run", "tiny.kdl", "--out", "reader/train.jsonl/run"]);
    ran.failed_with(&["reader/train.jsonl/run", "help: choose a place that can be written with `--out`"]);
}

/// As in `adapt run tiny.kdl 2>&1 | head`: who stops reading does not end the work.
#[test]
fn a_run_that_nobody_reads_ends_as_one_that_is_read() {
    let read = Workshop::new();
    read.ok(&["run", "tiny.kdl", "--verbose"]);
    let shop = Workshop::new();
    assert_eq!(shop.ignored(&["run", "tiny.kdl", "--verbose"]), Some(0));
    for stage in STAGES {
        assert_eq!(shop.weights("runs/tiny", stage), read.weights("runs/tiny", stage), "{stage}");
    }
    // A second time there are results alone to print, a dry run prints a plan, and answers are printed as they come.
    let generate = ["generate", "runs/tiny/aligned/model", "--prompt", "Op een dag", "--max-tokens", "8"];
    for args in [&["run", "tiny.kdl"][..], &["run", "tiny.kdl", "--dry-run"], &generate] {
        assert_eq!(shop.ignored(args), Some(0), "{args:?}");
    }
}

/// Whether a complete checkpoint is there.
fn has_checkpoint(checkpoints: &Path) -> bool {
    !complete_checkpoints(checkpoints).is_empty()
}

/// Returns the complete checkpoints, oldest first; one that is being written has another name.
fn complete_checkpoints(checkpoints: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(checkpoints).into_iter().flatten().flatten();
    let mut complete: Vec<PathBuf> = entries
        .map(|entry| entry.path())
        .filter(|path| {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            name.strip_prefix("step-").is_some_and(|step| step.parse::<u64>().is_ok())
        })
        .collect();
    complete.sort();
    complete
}

fn wait_for(mut there: impl FnMut() -> bool) {
    for _ in 0..600 {
        if there() {
            return;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("waited for 30 seconds");
}

#[test]
fn a_second_process_on_the_same_folder_fails_at_once_and_names_the_first() {
    let shop = Workshop::new();
    shop.edit("steps 8", "steps 2000");
    let mut child = shop.start(&["run", "tiny.kdl"]);
    let folder = shop.path("runs/tiny/dutch");
    wait_for(|| folder.is_dir());
    let second = shop.run(&["run", "tiny.kdl"]);
    child.kill().unwrap();
    let id = child.id().to_string();
    child.wait().unwrap();
    second.failed_with(&["run-in-progress", &id]);
}

#[test]
fn the_folder_of_another_recipe_is_left_alone() {
    let shop = Workshop::new();
    shop.ok(&["run", "tiny.kdl", "--only", "dutch", "--out", "here"]);
    shop.write("other.kdl", crate::workshop::RECIPE);
    let other = shop.run(&["run", "other.kdl", "--out", "here"]);
    other.failed_with(&["holds the run of", "--out"]);
}

#[test]
fn a_changed_recipe_does_not_silently_go_on_from_an_old_checkpoint() {
    let shop = Workshop::new();
    shop.edit("steps 8", "steps 4000");
    let mut child = shop.start(&["run", "tiny.kdl", "--only", "dutch"]);
    let checkpoints = shop.path("runs/tiny/dutch/checkpoints");
    wait_for(|| has_checkpoint(&checkpoints));
    child.kill().unwrap();
    child.wait().unwrap();
    shop.edit("lr=3e-3", "lr=1e-3");
    shop.run(&["run", "tiny.kdl", "--only", "dutch"]).failed_with(&["recipe-changed", "--fork"]);
    shop.edit("steps 4000", "steps 40");
    shop.ok(&["run", "tiny.kdl", "--only", "dutch", "--fork"]);
}

/// Weights so large that the products of attention exceed f32.
#[test]
fn a_loss_that_is_not_finite_stops_the_run_and_writes_no_model() {
    let shop = Workshop::new();
    shop.ok(&["run", "tiny.kdl", "--only", "dutch"]);
    let copy = copy_model(&shop);
    let file = copy.join("model.safetensors");
    let mut bytes = std::fs::read(&file).unwrap();
    for part in ["q_proj", "k_proj"] {
        let (start, end) = data_of(&bytes, &format!("model.layers.0.self_attn.{part}.weight"));
        for number in bytes[start..end].chunks_exact_mut(4) {
            number.copy_from_slice(&1e25f32.to_le_bytes());
        }
    }
    std::fs::write(&file, bytes).unwrap();
    shop.write("use.kdl", USE);
    let ran = shop.run(&["run", "use.kdl"]);
    ran.failed_with(&["non-finite"]);
    assert!(!shop.path("runs/use/more/model").exists());
}

/// Trains on from a model folder, without evaluation.
const USE: &str = r#"adapt 1
model m "model"
dataset text "reader/train.jsonl" { rows text; }
cpt more {
    model m
    data text
    precision f32
    sequence 128
    batch 4
    steps 2
    optimizer adamw lr=1e-3
}
"#;

/// Copies the result of `dutch` to the folder `model`.
fn copy_model(shop: &Workshop) -> PathBuf {
    let copy = shop.path("model");
    std::fs::create_dir_all(&copy).unwrap();
    for entry in std::fs::read_dir(shop.path("runs/tiny/dutch/model")).unwrap().flatten() {
        std::fs::copy(entry.path(), copy.join(entry.file_name())).unwrap();
    }
    copy
}

/// Where the numbers of a tensor lie in a safetensors file.
fn data_of(bytes: &[u8], tensor: &str) -> (usize, usize) {
    let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let json: serde_json::Value = serde_json::from_slice(&bytes[8..8 + header]).unwrap();
    let offset = |at: usize| 8 + header + json[tensor]["data_offsets"][at].as_u64().unwrap() as usize;
    (offset(0), offset(1))
}

#[test]
fn a_checkpoint_with_numbers_that_are_none_is_refused_by_name() {
    let shop = Workshop::new();
    shop.edit("steps 8", "steps 4000");
    let mut child = shop.start(&["run", "tiny.kdl", "--only", "dutch"]);
    let checkpoints = shop.path("runs/tiny/dutch/checkpoints");
    wait_for(|| has_checkpoint(&checkpoints));
    child.kill().unwrap();
    child.wait().unwrap();
    let newest = complete_checkpoints(&checkpoints).pop().unwrap();
    let file = newest.join("state.safetensors");
    let mut bytes = std::fs::read(&file).unwrap();
    let end = bytes.len() - 4;
    bytes[end..].copy_from_slice(&f32::NAN.to_le_bytes());
    std::fs::write(&file, bytes).unwrap();
    let name = newest.file_name().unwrap().to_str().unwrap().to_owned();
    shop.run(&["run", "tiny.kdl", "--only", "dutch"]).failed_with(&["checkpoint", &name, "remove"]);
}

#[test]
fn broken_data_is_named_by_file_and_row() {
    let shop = Workshop::new();
    let mut rows: Vec<String> = shop.read("reader/train.jsonl").lines().map(str::to_owned).collect();
    rows[36] = "{\"text\": \"open".into();
    shop.write("reader/train.jsonl", &rows.join("\n"));
    shop.run(&["run", "tiny.kdl"]).failed_with(&["reader/train.jsonl", "37", "on-bad-row"]);

    let shop = Workshop::new();
    shop.write("chat/train.jsonl", "{\"dialog\": []}\n");
    let ran = shop.run(&["run", "tiny.kdl"]);
    ran.failed_with(&["missing-column", "messages", "dialog"]);
    assert!(!shop.path("runs/tiny/dutch").exists(), "the check finds it before anything runs");
}

#[test]
fn weights_that_are_cut_off_are_refused_before_anything_runs() {
    let shop = Workshop::new();
    shop.ok(&["run", "tiny.kdl", "--only", "dutch"]);
    let weights = shop.weights("runs/tiny", "dutch");
    let copy = copy_model(&shop);
    std::fs::write(copy.join("model.safetensors"), &weights[..weights.len() - 100]).unwrap();
    shop.write("use.kdl", USE);
    let ran = shop.run(&["run", "use.kdl"]);
    ran.failed_with(&["model.safetensors", "cut off"]);
    assert!(!shop.path("runs/use/more").exists());
}

/// A full disk: the run folder lies on a file system of a few megabytes.
#[test]
fn a_full_disk_leaves_the_last_checkpoint_and_says_what_is_needed() {
    let shop = Workshop::new();
    let mount = shop.path("small");
    std::fs::create_dir_all(&mount).unwrap();
    let mounted = std::process::Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=1200k", "tmpfs"])
        .arg(&mount)
        .status();
    if !mounted.is_ok_and(|status| status.success()) {
        assert!(std::env::var_os("ADAPT_REQUIRE_MOUNT").is_none(), "cannot mount a small file system");
        eprintln!("skipped: this machine does not let the test mount a small file system");
        return;
    }
    let ran = shop.run(&["run", "tiny.kdl", "--only", "dutch", "--out", "small/run"]);
    let leftovers: Vec<String> = walk(&mount)
        .into_iter()
        .filter(|path| {
            let name = path.rsplit('/').next().unwrap_or(path);
            name.contains("tmp") || name.contains("partial")
        })
        .collect();
    std::process::Command::new("umount").arg("-l").arg(&mount).status().unwrap();
    ran.failed_with(&["disk-full"]);
    assert!(leftovers.is_empty(), "{leftovers:?}");
}

fn walk(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        found.push(entry.path().display().to_string());
        if entry.path().is_dir() {
            found.extend(walk(&entry.path()));
        }
    }
    found
}

#[test]
fn a_sweep_runs_what_differs_and_shares_the_rest() {
    let shop = Workshop::new();
    shop.edit("adapt 1\n", "adapt 1\n\nparam beta 0.1 {\n    sweep 0.1 0.5\n}\n");
    shop.edit("    data choices\n", "    data choices\n    beta $beta\n");
    let plan = shop.ok(&["plan", "tiny.kdl", "--sweep"]);
    let line = |name: &str| {
        let found = plan.stdout.lines().find(|line| line.trim_start().starts_with(name));
        found.unwrap_or_else(|| panic!("no `{name}` in:\n{}", plan.stdout)).to_owned()
    };
    assert!(line("dutch").contains("once"), "{}", plan.stdout);
    assert!(line("aligned").contains("2 times"), "{}", plan.stdout);

    shop.ok(&["run", "tiny.kdl", "--sweep"]);
    let (first, second) = ("runs/tiny-beta=0.1", "runs/tiny-beta=0.5");
    assert!(shop.path(&format!("{first}/dutch/model")).is_dir());
    assert!(!shop.path(&format!("{second}/dutch/model")).exists(), "the shared stage ran once");
    assert_ne!(shop.weights(first, "aligned"), shop.weights(second, "aligned"));
    let again = shop.ok(&["run", "tiny.kdl", "--sweep"]);
    assert_eq!(again.stdout.matches("nothing to do").count(), 2, "{}", again.stdout);

    let alone = Workshop::new();
    alone.edit("    data choices\n", "    data choices\n    beta 0.5\n");
    alone.ok(&["run", "tiny.kdl"]);
    assert_eq!(shop.weights(second, "aligned"), alone.weights("runs/tiny", "aligned"), "as a run of its own");
}

#[test]
fn what_cannot_be_run_yet_is_refused_before_anything_runs() {
    let shop = Workshop::new();
    shop.write(
        "later.kdl",
        &(shop.read("tiny.kdl") + "\nexport out {\n    model aligned\n    to \"out\"\n    format gguf\n}\n"),
    );
    assert!(shop.ok(&["check", "later.kdl"]).stdout.contains("not-yet-runnable"));
    assert!(shop.ok(&["plan", "later.kdl"]).stdout.contains("not yet runnable"));
    shop.run(&["run", "later.kdl"]).failed_with(&["not-yet-runnable", "export"]);
    assert!(!shop.path("runs").exists(), "nothing was begun");
    shop.ok(&["run", "later.kdl", "--only", "dutch"]);
}

/// Stages that answer the held-out chats and pairs of the recipe with the model of its first stage.
const ANSWERING: &str = r#"
generate told { model dutch; data talks; template std:chatml; max-tokens 40; temperature 1; seed 7; }
generate chosen { model dutch; data choices; template std:chatml; max-tokens 40; }
"#;

/// Kills a run while rows are answered: none is answered again, and the file ends with the same bytes.
#[test]
fn a_killed_run_answers_each_row_once() {
    let prepare = |shop: &Workshop| {
        let rows: Vec<String> =
            (0..6).map(|_| shop.read("chat/train.jsonl") + &shop.read("chat/heldout.jsonl")).collect();
        shop.write("chat/heldout.jsonl", &rows.concat());
        let recipe = shop.read("tiny.kdl");
        let (before, _) = recipe.split_once("sft chat").unwrap();
        shop.write("tiny.kdl", &(before.to_owned() + ANSWERING));
    };
    let args = |threads| ["run", "tiny.kdl", "--threads", threads];
    let whole = Workshop::new();
    prepare(&whole);
    whole.ok(&args("2"));
    let answers = |shop: &Workshop, stage: &str| shop.read(&format!("runs/tiny/{stage}/answers.jsonl"));
    let rows = answers(&whole, "told").lines().count();
    assert_eq!(rows, 6 * 48);
    assert_eq!(answers(&whole, "chosen").lines().count(), 8);

    let shop = Workshop::new();
    prepare(&shop);
    let mut child = shop.start(&args("1"));
    let began = || partial_answers(&shop.path("runs/tiny/told")).unwrap_or_default();
    wait_for(|| began().matches('\n').count() > 3);
    child.kill().unwrap();
    child.wait().unwrap();
    let left = began();
    assert!(answers(&whole, "told").starts_with(&left), "whole lines in the order of the rows");
    let first = left.matches('\n').count();
    assert!(first < rows, "killed too late");
    let stderr = shop.ok(&args("2")).stderr;
    let note =
        stderr.lines().find_map(|line| line.split_once(&format!(" of {rows} rows were answered before")));
    let before: usize = note.unwrap().0.rsplit(' ').next().unwrap().parse().unwrap();
    assert_eq!(before, first);
    for stage in ["told", "chosen"] {
        assert_eq!(answers(&shop, stage), answers(&whole, stage), "{stage}");
    }

    // Other rows or another seed are other work, the training before them is not.
    let records =
        || ["dutch", "told", "chosen"].map(|stage| shop.read(&format!("runs/tiny/{stage}/result.json")));
    let done = records();
    let chats = shop.read("chat/heldout.jsonl").replacen("tegenovergestelde", "omgekeerde", 1);
    shop.write("chat/heldout.jsonl", &chats);
    shop.ok(&args("2"));
    let changed = records();
    assert_eq!((&changed[0], &changed[2]), (&done[0], &done[2]));
    assert_ne!(changed[1], done[1]);
}

/// The answers of a stage that is not done.
fn partial_answers(stage: &Path) -> Option<String> {
    let mut files = std::fs::read_dir(stage).ok()?.filter_map(Result::ok).map(|entry| entry.path());
    let path = files.find(|path| path.extension().is_some_and(|extension| extension == "partial"))?;
    std::fs::read_to_string(path).ok()
}
