//! What each rank holds is what the plan says.

use crate::support::*;
use crate::world::DPO;
use engine::executor::Executor;
use engine::mesh::{Job, Ranks};
use ops::backend::Backend;
use plan::program::{Mesh, Module};
use plan::value::{Dtype, Role};

/// Returns the bytes that each rank of a module holds of every role.
fn held(module: &Module) -> Vec<Vec<u64>> {
    let backends = ranks(module.mesh, 1);
    let backends: Vec<&dyn Backend> = backends.iter().map(|backend| backend as &dyn Backend).collect();
    let of = |executor: &Executor| Role::ALL.map(|role| executor.held_bytes(role)).to_vec();
    if module.mesh == ONE {
        return vec![of(&Executor::new(module, backends[0]).expect("sound"))];
    }
    std::thread::scope(|scope| {
        let ranks = Ranks::start(scope, module, &backends[1..]).expect("started");
        let job = |_| -> Job<Vec<u64>> { Box::new(move |executor| Ok(of(executor))) };
        let others = ranks.ask(job).wait().expect("no rank fails");
        let leading = Executor::leading(module, backends[0], ranks).expect("sound");
        std::iter::once(of(&leading)).chain(others).collect()
    })
}

const CASES: [Case; 5] = [
    LLAMA,
    Case { tied: true, precision: Dtype::Bf16, ..LLAMA },
    Case { objective: DPO, batch: 3, ..GPT2 },
    Case { precision: Dtype::Bf16, ..GPT2 },
    Case { train: &["layers 1..2"], ..LLAMA },
];

#[test]
fn every_rank_holds_what_the_plan_says() {
    for (case, mesh) in CASES.iter().flat_map(|case| [ONE, REPLICAS, SHARDS].map(|mesh| (case, mesh))) {
        let module = case.module(mesh);
        let planned = Role::ALL.map(|role| module.arena_bytes(role)).to_vec();
        let held = held(&module);
        assert_eq!(held.len() as u64, mesh.ranks());
        for (rank, held) in held.iter().enumerate() {
            assert_eq!(*held, planned, "{case:?} on {mesh:?}, rank {rank}");
        }
    }
}

/// Bytes of one rank, by role.
fn planned(case: &Case, mesh: Mesh) -> impl Fn(Role) -> u64 {
    let module = case.module(mesh);
    move |role| module.arena_bytes(role)
}

const DIVIDED: [Role; 4] = [Role::Weight, Role::Master, Role::Gradient, Role::State];

#[test]
fn replicas_hold_all_and_shards_a_half() {
    for case in CASES.iter().filter(|case| case.train.is_empty()) {
        let [one, replica, shard] = [ONE, REPLICAS, SHARDS].map(|mesh| planned(case, mesh));
        for role in DIVIDED {
            assert_eq!(replica(role), one(role), "{case:?}, {role:?}");
            // Norms and biases are whole on each rank, and places are rounded up to cache lines.
            let (all, part) = (one(role), shard(role));
            assert!(part >= all / 2 && part <= all * 54 / 100, "{case:?}, {role:?}: {part} of {all}");
        }
        assert_eq!(one(Role::Master) > 0, case.precision == Dtype::Bf16);
    }
}

/// Of what is frozen there are no gradients and no state to divide, and every rank reads it.
#[test]
fn frozen_weights_are_whole_on_every_rank() {
    let case = Case { train: &["layers 1..2"], ..LLAMA };
    let [one, shard] = [ONE, SHARDS].map(|mesh| planned(&case, mesh));
    for role in [Role::Gradient, Role::State] {
        let (all, part) = (one(role), shard(role));
        assert!(part >= all / 2 && part <= all * 54 / 100, "{role:?}: {part} of {all}");
    }
    let gone = one(Role::Weight) - shard(Role::Weight);
    // In f32 a trained weight has as many bytes as its gradient.
    assert_eq!(gone, one(Role::Gradient) - shard(Role::Gradient));
}
