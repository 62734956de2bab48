//! Training on several devices through the command: the same as on one, in the memory that the plan says.

use crate::workshop::{Ran, Workshop};
use serde_json::Value;
use std::time::{Duration, Instant};

const STAGES: [&str; 3] = ["dutch", "chat", "aligned"];

/// Two devices of a thread each, on whatever machine this runs.
const TWO: [&str; 4] = ["--devices", "2", "--threads", "2"];

/// Relative distance that sums in another order may make.
const TOLERANCE: f64 = 1e-5;

/// A model that is mostly weights, with which replicas need more than [`TIGHT`] and shards do not.
fn weighty() -> Workshop {
    let shop = Workshop::new();
    for (from, to) in [
        ("hidden_size 32", "hidden_size 256"),
        ("intermediate_size 64", "intermediate_size 512"),
        ("num_hidden_layers 2", "num_hidden_layers 4"),
        ("sequence 192", "sequence 96"),
        ("batch 4", "batch 4 micro=1"),
        ("steps 8", "steps 5"),
    ] {
        shop.edit(from, to);
    }
    shop
}

const TIGHT: [&str; 2] = ["--memory", "92MiB"];

/// Runs the recipe, in a folder of that name, with these arguments.
fn run(shop: &Workshop, name: &str, args: &[&[&str]]) -> Ran {
    shop.ok(&[&["run", "tiny.kdl", "--name", name], &args.concat()[..]].concat())
}

/// Returns the figures of `dutch` as a run with these arguments is planned.
fn figures(shop: &Workshop, name: &str, args: &[&str]) -> Value {
    let plan = shop.ok(&[&["plan", "tiny.kdl", "--format", "json", "--name", name], args].concat());
    let plan: Value = serde_json::from_str(&plan.stdout).unwrap();
    let tasks = plan["tasks"].as_array().unwrap();
    tasks.iter().find(|task| task["name"] == "dutch").unwrap()["figures"].clone()
}

fn assert_losses_agree(shop: &Workshop, stage: &str, one: &str, other: &str) {
    let (a, b) =
        (shop.losses(&format!("runs/tiny-{one}"), stage), shop.losses(&format!("runs/tiny-{other}"), stage));
    assert!(a.len() >= 4 && a.len() == b.len(), "{stage}: {} and {} steps", a.len(), b.len());
    for (step, (a, b)) in a.iter().zip(&b).enumerate() {
        assert!((a - b).abs() <= TOLERANCE * a.abs(), "{other}, {stage}, step {}: {a} and {b}", step + 1);
    }
}

/// Dropout included; of four sequences three devices take two, one and one.
#[test]
fn replicas_come_to_what_one_device_comes_to() {
    let shop = Workshop::new();
    run(&shop, "one", &[&["--threads", "2"]]);
    run(&shop, "two", &[&TWO]);
    run(&shop, "three", &[&["--devices", "3", "--threads", "3"]]);
    for (stage, other) in STAGES.iter().flat_map(|stage| [(stage, "two"), (stage, "three")]) {
        assert_losses_agree(&shop, stage, "one", other);
    }
}

#[test]
fn shards_come_to_what_one_device_comes_to() {
    let shop = weighty();
    run(&shop, "one", &[&["--threads", "2", "--only", "dutch"]]);
    let planned = figures(&shop, "two", &[&TWO[..2], &TIGHT].concat());
    assert_eq!((&planned["ranks"]["replicas"], &planned["ranks"]["shards"]), (&1.into(), &2.into()));
    run(&shop, "two", &[&TWO, &TIGHT, &["--only", "dutch"]]);
    assert_losses_agree(&shop, "dutch", "one", "two");
}

/// Runs to the end, killed at some moments; what is left must be that of a run that was not.
fn kill_and_compare(shop: &Workshop, stages: &[&str], args: &[&str]) {
    let begun = Instant::now();
    run(shop, "whole", &[args]);
    let length = begun.elapsed().as_secs_f64();
    // Moments that look random but are the same in each run of this test.
    let mut seed: u64 = 7;
    for _ in 0..4 {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let share = (seed >> 40) as f64 / f64::from(1 << 24);
        let mut child = shop.start(&[&["run", "tiny.kdl", "--name", "killed"], args].concat());
        std::thread::sleep(Duration::from_secs_f64(0.05 + share * length / 2.0));
        child.kill().unwrap();
        child.wait().unwrap();
    }
    run(shop, "killed", &[args]);
    for stage in stages {
        let [whole, killed] = ["runs/tiny-whole", "runs/tiny-killed"];
        assert!(shop.weights(whole, stage) == shop.weights(killed, stage), "{stage}");
        let timeless = |run: &str| {
            let mut lines = shop.metrics(run, stage);
            for line in &mut lines {
                line.as_object_mut().unwrap().retain(|key, _| !key.contains("second"));
            }
            lines
        };
        assert_eq!(timeless(whole), timeless(killed), "{stage}");
    }
}

#[test]
fn replicas_that_are_killed_end_with_the_same_bits() {
    kill_and_compare(&Workshop::new(), &STAGES, &TWO);
}

#[test]
fn shards_that_are_killed_end_with_the_same_bits() {
    kill_and_compare(&weighty(), &STAGES[..1], &[&TWO[..], &TIGHT, &["--only", "dutch"]].concat());
}

/// Returns the anonymous resident memory of a process, in bytes.
fn resident(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("RssAnon:"))?;
    line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kib| kib << 10)
}

/// Runs `dutch` and returns the most anonymous memory that the process has had, beside what was planned.
fn used_and_planned(shop: &Workshop, name: &str, args: &[&str]) -> (u64, Value) {
    let mut child = shop
        .start(&[&["run", "tiny.kdl", "--only", "dutch", "--threads", "2", "--name", name], args].concat());
    let mut most = 0;
    while child.try_wait().unwrap().is_none() {
        most = most.max(resident(child.id()).unwrap_or(0));
        std::thread::sleep(Duration::from_millis(2));
    }
    assert!(child.wait().unwrap().success());
    (most, figures(shop, name, args))
}

fn bytes(table: &Value, wanted: impl Fn(&str) -> bool) -> u64 {
    let parts = table.as_array().unwrap().iter();
    parts.filter(|part| wanted(part[0].as_str().unwrap())).map(|part| part[1].as_u64().unwrap()).sum()
}

/// What shards divide.
fn is_cut(name: &str) -> bool {
    ["weights", "gradients", "optimizer"].contains(&name)
}

#[test]
fn memory_of_all_devices_is_what_the_plan_says() {
    let shop = Workshop::new();
    let rows = shop.read("reader/heldout.jsonl");
    shop.write("reader/heldout.jsonl", &format!("{}\n", rows.lines().next().unwrap()));
    for (from, to) in [
        ("hidden_size 32", "hidden_size 512"),
        ("intermediate_size 64", "intermediate_size 1408"),
        ("num_hidden_layers 2", "num_hidden_layers 8"),
        ("sequence 192", "sequence 64"),
        ("batch 4", "batch 2 micro=1"),
        ("steps 8", "steps 2"),
        ("keep=2", "keep=1"),
    ] {
        shop.edit(from, to);
    }
    let two = &TWO[..2];
    let (replicas_used, replicas) = used_and_planned(&shop, "replicas", two);
    let (shards_used, shards) = used_and_planned(&shop, "shards", &[two, &["--memory", "550MiB"]].concat());
    assert_eq!((&replicas["ranks"]["replicas"], &shards["ranks"]["shards"]), (&2.into(), &2.into()));
    let all = |figures: &Value| bytes(&figures["memory"], |_| true);
    println!(
        "replicas: {} of {}, shards: {} of {}",
        replicas_used,
        all(&replicas),
        shards_used,
        all(&shards)
    );
    assert!(all(&replicas) >= 500 << 20, "too small to measure");
    let ratio = replicas_used as f64 / all(&replicas) as f64;
    assert!((0.98..=1.02).contains(&ratio), "{replicas_used} bytes are {ratio} of what is planned");
    // What the process takes besides is the same for both.
    let (used, planned) = (replicas_used - shards_used, all(&replicas) - all(&shards));
    assert!(
        used.abs_diff(planned) < all(&shards) / 100,
        "shards take {used} bytes less, {planned} are planned"
    );

    // What all take is what each takes, what they exchange through, and what the process does.
    let one = figures(&shop, "none", &[]);
    assert!(one.get("ranks").is_none() && bytes(&one["memory"], |name| name == "exchange") == 0);
    for figures in [&replicas, &shards] {
        let roles: Vec<&str> = figures["ranks"]["memory"]
            .as_array()
            .unwrap()
            .iter()
            .map(|part| part[0].as_str().unwrap())
            .collect();
        assert_eq!(
            bytes(&figures["memory"], |name| roles.contains(&name)),
            2 * bytes(&figures["ranks"]["memory"], |_| true)
        );
        assert!(bytes(&figures["memory"], |name| name == "exchange") > 0);
    }
    let (whole, half) = (bytes(&one["memory"], is_cut), bytes(&shards["ranks"]["memory"], is_cut));
    assert_eq!(bytes(&replicas["ranks"]["memory"], is_cut), whole);
    assert!(half >= whole / 2 && half < whole * 51 / 100, "a shard holds {half} of {whole} bytes");
}

#[test]
fn a_plan_says_what_each_device_holds() {
    let shop = weighty();
    let plan = |args: &[&str]| shop.ok(&[&["plan", "tiny.kdl"], args].concat()).stdout;
    let one = plan(&[]);
    assert!(!one.contains("per device") && !one.contains("exchange"), "{one}");
    // Before rows are prepared, and after.
    for mark in ["~", ""] {
        let replicas = plan(&TWO);
        for words in ["2, each with everything", "on each device", "exchange 4.0 MiB"] {
            assert!(replicas.contains(words), "no `{words}` in {replicas}");
        }
        assert!(replicas.contains(&format!("per device  {mark}weights 9.4 MiB")), "{replicas}");
        let shards = plan(&[&TWO[..], &TIGHT].concat());
        assert!(shards.contains("2, each with a part of weights, gradients and optimizer state"), "{shards}");
        assert!(shards.contains(&format!("per device  {mark}weights 4.7 MiB")), "{shards}");
        shop.ok(&["run", "tiny.kdl", "--only", "data:dutch", "-q"]);
        shop.ok(&["run", "tiny.kdl", "--only", "init:seed", "-q"]);
    }
    let dry = shop.ok(&["run", "tiny.kdl", "--dry-run", "--devices", "2", "--threads", "2"]).stdout;
    assert!(dry.contains("2, each with everything"), "{dry}");
}

#[test]
fn what_cannot_be_divided_is_refused_before_anything_runs() {
    let shop = Workshop::new();
    let many = shop.run(&["run", "tiny.kdl", "--devices", "8", "--threads", "8"]);
    many.failed_with(&["too-many-devices", "4 sequences per step", "4 pairs per step", "`--devices 4`"]);
    let many = shop.run(&["plan", "tiny.kdl", "--devices", "5", "--threads", "5"]);
    many.failed_with(&["too-many-devices"]);
    let refused = |command: &str, args: &[&str], words: &[&str]| {
        let ran = shop.run(&[&[command, "tiny.kdl"], args].concat());
        assert_eq!(ran.code, Some(2), "{command} {args:?}: {}", ran.stderr);
        for word in words {
            assert!(ran.stderr.contains(word), "{command} {args:?}: no `{word}` in {}", ran.stderr);
        }
        ran.stderr
    };
    // A plan is refused in the same words.
    let check = |args: &[&str], words: &[&str]| {
        assert_eq!(refused("run", args, words), refused("plan", args, words));
    };
    check(&["--devices", "0"], &["one device at least"]);
    check(&["--devices", "100000"], &["64 devices at most", "several machines"]);
    check(&["--devices", "2x2"], &["replicas of shards cannot be run yet"]);
    check(&["--devices", "3", "--threads", "2"], &["3 devices need a thread each", "`--devices 2`"]);
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    if cores < 64 {
        let (more, has) = ((cores + 1).to_string(), format!("this machine has {cores} core"));
        check(&["--devices", &more], &["need a thread each", &has]);
    }
    let nccl = ["--devices", "2", "--threads", "2", "--backend", "nccl"];
    refused("run", &nccl, &["`nccl` cannot be used yet"]);
    assert!(!shop.path("runs").exists(), "nothing has run");
}
