//! The memory of the process is that of the plan, also while a checkpoint is written.
//!
//! One test in a process of its own: whatever else ran beside it would be measured with it.
#![cfg(target_os = "linux")]

use engine::checkpoint::{self, Reports, Snapshot, State};
use engine::executor::Executor;
use engine::metrics::Marks;
use engine::origin::Origin;
use engine::report::Summary;
use ops::cpu::Cpu;
use plan::op::{Op, OpKind, Output, Write};
use plan::program::{Arena, Decisions, Mesh, Module, Program};
use plan::task::Key;
use plan::value::{Dtype, Role, ValueId};

const MIB: u64 = 1 << 20;

/// Returns the anonymous resident memory of this process, in bytes.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux has it");
    let line = status.lines().find(|line| line.starts_with("RssAnon:")).expect("since Linux 4.5");
    line.split_whitespace().nth(1).expect("a number").parse::<u64>().expect("of KiB") << 10
}

/// Weights, moments and activations of odd sizes; no program reaches the last 50 MiB of the activations.
fn module() -> Module {
    let mut module = Module::default();
    let mut value = |name: &str, role, elements: u64| {
        let id = module.value(name, Dtype::F32, role, vec![elements.into()]);
        module.values[id.index()].offset = Some(0);
        id
    };
    let weight = value("w", Role::Weight, 30 * MIB + 123);
    value("w.m", Role::State, 25 * MIB + 77);
    // The update rewrites the weight, so that a checkpoint holds it.
    let x = value("x", Role::Activation, 11 * MIB + 5);
    value("unreached", Role::Activation, 25 * MIB);
    value("count", Role::Batch, 1);
    let copied = Output { value: x, write: Write::Set };
    let ops = vec![Op::new(OpKind::Copy, vec![weight], vec![copied], "here")];
    module.programs.push(Program { name: "micro".into(), ops });
    let updated = Output { value: weight, write: Write::Set };
    let ops = vec![Op::new(OpKind::Copy, vec![x], vec![updated], "here")];
    module.programs.push(Program { name: "update".into(), ops });
    let bytes = |id: ValueId| module.values[id.index()].bytes(&[]).next_multiple_of(64);
    module.arenas = (0..module.values.len() as u32)
        .map(ValueId)
        .filter(|id| *id != x)
        .map(|id| Arena { role: module.values[id.index()].role, bytes: bytes(id) })
        .collect();
    module
}

/// Writes a checkpoint on another thread and looks at the memory meanwhile.
fn saving_takes_none(executor: &Executor) {
    let place = tempfile::tempdir().expect("a temporary folder");
    let state = State {
        step: 1,
        epoch: 0.5,
        key: Key("abc".into()),
        origin: Origin::default(),
        numerics: 1,
        backend: "cpu".into(),
        instruction_set: "scalar".into(),
        decisions: Decisions::default(),
        mesh: Mesh::default(),
        marks: Marks::default(),
        reports: Reports::Done,
        summary: Summary::default(),
        tensors: String::new(),
    };
    let snapshot = Snapshot::take(executor).expect("sound");
    let bytes = checkpoint::bytes(executor.module());
    assert!(bytes >= 200 * MIB, "{bytes} bytes are too few to tell");
    let before = resident();
    let mut most = before;
    let folder = place.path().to_owned();
    let writer = std::thread::spawn(move || checkpoint::write(&folder, &snapshot, &state, 1));
    while !writer.is_finished() {
        most = most.max(resident());
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    writer.join().expect("no panic").expect("written");
    println!("{} MiB saved, {} KiB more in memory", bytes / MIB, (most - before) >> 10);
    assert!(most - before < 3 * MIB, "{} bytes more", most - before);
    let written = checkpoint::folder(place.path()).join("step-000001/state.safetensors");
    assert!(std::fs::metadata(written).expect("there").len() > bytes);
}

#[test]
fn memory_is_that_of_the_plan() {
    let module = module();
    let backend = Cpu::new(2);
    let before = resident();
    let executor = Executor::new(&module, &backend).expect("sound");
    let planned = module.total_bytes() - (25 - 11) * 4 * MIB;
    let used = resident() - before;
    println!("planned {planned} bytes, used {used}");
    assert!(used.abs_diff(planned) < MIB / 2, "planned {planned} bytes, used {used}");
    saving_takes_none(&executor);
    drop(executor);
    assert!(resident() < before + MIB, "all of it is given back");
}
