//! The memory of all ranks is that of the plan, also while they exchange and while their model is saved.
//!
//! One test in a process of its own: whatever else ran beside it would be measured with it.
#![cfg(target_os = "linux")]

use engine::executor::Executor;
use engine::frozen::Frozen;
use engine::mesh::Ranks;
use engine::weights;
use lower::builder::Capacities;
use lower::models::Model;
use lower::objectives::Objective;
use lower::programs::{Training, draft, file_tensors};
use ops::backend::{Backend, Draw};
use ops::cpu::Cpu;
use plan::program::{Mesh, Module};
use plan::value::Dtype;
use plan::weights::FileTensor;
use plan::work::{AdamW, batch};
use serde_json::json;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

const MIB: u64 = 1 << 20;

const ADAMW: AdamW = AdamW { lr: 1e-3, weight_decay: 0.1, beta1: 0.9, beta2: 0.999, eps: 1e-8, clip: 1.0 };

/// Returns the anonymous resident memory of this process, in bytes.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux has it");
    let line = status.lines().find(|line| line.starts_with("RssAnon:")).expect("since Linux 4.5");
    line.split_whitespace().nth(1).expect("a number").parse::<u64>().expect("of KiB") << 10
}

/// A GPT-2 of which most is one matrix of 32 MiB, which is embedding and head.
fn planned(mesh: Mesh) -> (Module, Vec<FileTensor>) {
    let sizes = [("vocab_size", 32_771), ("n_embd", 256), ("n_layer", 1), ("n_head", 4), ("n_positions", 64)];
    let fields: Vec<_> = sizes.into_iter().map(|(name, size)| (name.to_owned(), json!(size))).collect();
    let model = Model::from_config(&Model::new_config("gpt2", &fields)).expect("sound");
    let training = Training { objective: Objective::CrossEntropy, optimizer: &ADAMW, part: None };
    let capacities = Capacities { tokens: 64, rows: 4, trained: 64, slots: 0, cached: 0 };
    let module = draft(&model, &training, capacities, Dtype::F32).divided(mesh).plan(&[]);
    let map = file_tensors(&model, &module);
    (module, map)
}

/// Returns how much more memory there was at most while something was done.
fn more_during(job: impl FnOnce()) -> u64 {
    let (most, done) = (AtomicU64::new(0), AtomicBool::new(false));
    let before = resident();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                most.fetch_max(resident(), Ordering::Relaxed);
                std::thread::sleep(Duration::from_micros(200));
            }
        });
        // The watching ends also when the job panics.
        let ended = catch_unwind(AssertUnwindSafe(job));
        done.store(true, Ordering::Relaxed);
        ended.unwrap_or_else(|panic| resume_unwind(panic));
    });
    most.into_inner().saturating_sub(before)
}

#[test]
fn memory_of_ranks_is_that_of_the_plan() {
    for mesh in [Mesh { replicas: 2, shards: 1 }, Mesh { replicas: 1, shards: 2 }] {
        let (module, map) = planned(mesh);
        let backends = [Cpu::new(1), Cpu::new(1)];
        let before = resident();
        std::thread::scope(|scope| {
            let others: [&dyn Backend; 1] = [&backends[1]];
            let ranks = Ranks::start(scope, &module, &others).expect("started");
            let mut leading = Executor::leading(&module, &backends[0], ranks).expect("sound");
            let (held, planned) = (resident() - before, module.total_bytes() * mesh.ranks());
            println!("{mesh}: {held} bytes are held, {planned} are planned");
            // Operands that are resolved, and the stack of a thread.
            assert!(held.abs_diff(planned) < 2 * MIB, "{mesh}: {held} bytes are held, {planned} are planned");

            leading.write_f32(batch::UPDATE_SCALARS, &[1e-3, 0.1, 0.001]).expect("fits");
            let exchange = more_during(|| leading.run("update", 0, Draw::default()).expect("runs"));
            println!("{exchange} bytes more to exchange");
            assert!(exchange <= mesh.exchange_bytes() + MIB / 2, "{mesh}: {exchange} bytes to exchange");

            let place = tempfile::tempdir().expect("a temporary folder");
            let frozen = Frozen::default();
            let save = || weights::save(&leading, &map, &frozen, "f32", place.path()).expect("saved");
            let saving = more_during(save);
            println!("{saving} bytes more to save");
            assert!(saving < 3 * MIB, "{mesh}: {saving} bytes to save");
            let saved = std::fs::metadata(place.path().join("model.safetensors")).expect("there").len();
            assert!(saved > 32 * MIB, "{saved} bytes are too few to tell");
        });
        assert!(resident() < before + 2 * MIB, "{mesh}: all of it is given back");
    }
}
