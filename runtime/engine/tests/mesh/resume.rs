//! Stops, other numbers of ranks and of threads leave no trace.

use crate::support::*;
use crate::world::DPO;
use engine::run::Outcome;
use ops::backend::Backend;
use plan::value::Dtype;

#[test]
fn threads_leave_no_trace() {
    for mesh in [REPLICAS, SHARDS] {
        let bits = |threads: usize| {
            let (world, config) = LLAMA.world();
            let task = LLAMA.stage(&config, mesh, 2);
            let backends = ranks(mesh, threads);
            let backends: Vec<&dyn Backend> =
                backends.iter().map(|backend| backend as &dyn Backend).collect();
            run_on(&world, &task, &backends, None).expect("runs");
            (world.model_bytes("trained"), world.metrics("trained"))
        };
        let once = bits(1);
        assert!(once == bits(1) && once == bits(2), "{mesh:?}");
    }
}

#[test]
fn any_number_of_ranks_goes_on_from_a_checkpoint() {
    for case in [LLAMA, GPT2] {
        let one = case.trained(ONE, 2);
        for (first, then) in [(SHARDS, ONE), (ONE, SHARDS), (REPLICAS, SHARDS), (SHARDS, REPLICAS)] {
            let (world, config) = case.world();
            let task = |mesh| case.stage(&config, mesh, 2);
            let stopped = run(&world, &task(first), first, Some(9));
            assert!(matches!(stopped, Outcome::Stopped { step } if step > 3 && step < STEPS), "{stopped:?}");
            let (done, noted) = run_noted(&world, &task(then), then, None);
            assert!(matches!(done, Outcome::Done(_)));
            let of = format!("the checkpoint is of {first} and the plan of {then}; results may differ");
            assert!(noted.contains(&of), "{noted}");
            let apart = one.apart(&Trained::read(&world));
            assert!(apart.0 < 1e-5 && apart.1 < 1e-5, "{first:?} to {then:?}: {apart:?}");
        }
    }
}

/// With the same ranks the bits are those of a run that was not stopped, whatever is trained and how.
#[test]
fn a_stop_leaves_no_trace() {
    let cases = [
        LLAMA,
        Case { precision: Dtype::Bf16, ..GPT2 },
        Case { objective: DPO, batch: 3, ..GPT2 },
        Case { train: &["layers 1..2"], precision: Dtype::Bf16, ..LLAMA },
    ];
    for (case, mesh) in cases.iter().flat_map(|case| [(case, REPLICAS), (case, SHARDS)]) {
        let (straight, config) = case.world();
        let task = case.stage(&config, mesh, 2);
        run(&straight, &task, mesh, None);
        let (stopping, _) = case.world();
        assert!(matches!(run(&stopping, &task, mesh, Some(7)), Outcome::Stopped { .. }));
        let (_, noted) = run_noted(&stopping, &task, mesh, None);
        assert!(!noted.contains("may differ"), "{noted}");
        assert!(straight.model_bytes("trained") == stopping.model_bytes("trained"), "{case:?} on {mesh:?}");
        assert_eq!(straight.metrics("trained"), stopping.metrics("trained"), "{case:?} on {mesh:?}");
    }
}
