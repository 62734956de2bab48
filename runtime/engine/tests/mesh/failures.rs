//! What goes wrong on any rank, or before there are ranks.

use crate::support::*;
use ops::backend::{Backend, Call, OpError};
use ops::cpu::Cpu;
use plan::op::OpKind;
use plan::value::Dtype;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// A rank whose backend fails at its n-th op.
struct Failing(Cpu, AtomicUsize);

impl Backend for Failing {
    fn name(&self) -> &'static str {
        "cpu"
    }
    fn supports(&self, kind: &OpKind, float: Dtype) -> Result<(), OpError> {
        self.0.supports(kind, float)
    }
    fn run(&self, call: Call<'_, '_>) -> Result<(), OpError> {
        match self.1.fetch_sub(1, Ordering::Relaxed) {
            1 => Err(OpError("the device is on fire".into())),
            _ => self.0.run(call),
        }
    }
}

#[test]
fn the_error_of_any_rank_ends_all_of_them() {
    for mesh in [REPLICAS, SHARDS] {
        for failing in [0, 1] {
            let (world, config) = LLAMA.world();
            let task = LLAMA.stage(&config, mesh, 2);
            let sound = Cpu::new(1);
            let broken = Failing(Cpu::new(1), AtomicUsize::new(700));
            let mut backends: Vec<&dyn Backend> = vec![&sound, &sound];
            backends[failing] = &broken;
            let error = run_on(&world, &task, &backends, None).expect_err("one has failed");
            assert!(error.message.contains("on fire"), "{mesh:?}, rank {failing}: {}", error.message);
        }
    }
}

/// A rank whose backend lacks an op, which it tells after the leading rank has asked for a first job.
struct Lacking(Cpu);

impl Backend for Lacking {
    fn name(&self) -> &'static str {
        "cpu"
    }
    fn supports(&self, kind: &OpKind, _: Dtype) -> Result<(), OpError> {
        std::thread::sleep(Duration::from_millis(50));
        Err(OpError(format!("no {kind:?} here")))
    }
    fn run(&self, call: Call<'_, '_>) -> Result<(), OpError> {
        self.0.run(call)
    }
}

#[test]
fn a_rank_that_cannot_start_ends_all_of_them() {
    for mesh in [REPLICAS, SHARDS] {
        let (world, config) = LLAMA.world();
        let task = LLAMA.stage(&config, mesh, 2);
        let error =
            run_on(&world, &task, &[&Cpu::new(1), &Lacking(Cpu::new(1))], None).expect_err("it lacks all");
        assert_eq!(error.code, "unsupported-op");
    }
}

#[test]
fn too_few_devices_are_refused() {
    let (world, config) = LLAMA.world();
    let task = LLAMA.stage(&config, SHARDS, 2);
    let error = run_on(&world, &task, &[&Cpu::new(1)], None).expect_err("there is one");
    assert!(error.message.contains("2 devices"), "{}", error.message);
}
