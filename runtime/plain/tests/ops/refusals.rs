//! What backends refuse, in words; and that every op is either run or refused in a test.

use crate::cases::{OPS, cases, place};
use crate::harness::{Case, index, run};
use ops::backend::Backend;
use ops::cpu::Cpu;
use plain::Plain;
use plan::op::{Adapter, Attention, Dropout, MeshAxis, OpKind, QuantFormat, Quantized, Write};
use plan::value::Dtype;

/// Ops that both backends refuse, and a word of the reason.
fn refused() -> Vec<(OpKind, &'static str)> {
    let quantized = Some(Quantized { format: QuantFormat::Nf4, block: 64, double: true });
    let adapter = Some(Adapter { rank: 8, scale: 2.0, dropout: None });
    let dropout = Some(Dropout { p: 0.1, site: 1 });
    let cached = Attention { dropout, ..crate::cases::attention(2, 1, 8) };
    vec![
        (OpKind::Route { experts: 4, top_k: 2 }, "mixture of experts"),
        (OpKind::Dispatch { experts: 4, top_k: 2 }, "mixture of experts"),
        (OpKind::GroupedLinear { experts: 4 }, "mixture of experts"),
        (OpKind::Combine { top_k: 2 }, "mixture of experts"),
        (OpKind::AllGather { axis: MeshAxis::Shards }, "collectives"),
        (OpKind::ReduceScatter { axis: MeshAxis::Shards }, "collectives"),
        (OpKind::AllReduce { axis: MeshAxis::All }, "collectives"),
        (OpKind::Linear { quantized, adapter: None }, "quantised"),
        (OpKind::Linear { quantized: None, adapter }, "adapter"),
        (OpKind::AttentionCached(cached), "dropout"),
    ]
}

#[test]
fn every_op_is_run_or_refused() {
    let mut seen = [false; OPS];
    let run = cases().into_iter().map(|case| case.kind);
    for kind in run.chain(refused().into_iter().map(|(kind, _)| kind)) {
        seen[place(&kind)] = true;
    }
    let missing: Vec<usize> = (0..OPS).filter(|&place| !seen[place]).collect();
    assert!(missing.is_empty(), "no case for the ops at {missing:?} of `place`");
}

#[test]
fn what_is_missing_is_refused_in_words() {
    for backend in [&Cpu::new(1) as &dyn Backend, &Plain::new()] {
        for (kind, word) in refused() {
            let error = backend.supports(&kind, Dtype::F32).expect_err(kind.name());
            assert!(error.0.contains(word) && error.0.contains(kind.name()), "{error}");
        }
        for case in cases() {
            assert_eq!(backend.supports(&case.kind, Dtype::F32), Ok(()), "{}", case.name);
        }
        let error = backend.supports(&OpKind::Add, Dtype::F16).expect_err("f16 is not there");
        assert!(error.0.contains("f16"), "{error}");
    }
    assert_eq!(Cpu::new(1).supports(&OpKind::Add, Dtype::Bf16), Ok(()));
    assert!(Plain::new().supports(&OpKind::Add, Dtype::Bf16).is_err());
    assert!(Cpu::new(1).supports(&OpKind::Add, Dtype::F64).is_err());
    assert_eq!(Plain::new().supports(&OpKind::Add, Dtype::F64), Ok(()));
}

/// Runs the first case of an op after a change; both backends must refuse it with this text.
fn refuses(kind: &str, change: impl Fn(&mut Case), text: &str) {
    let mut case = cases().into_iter().find(|case| case.kind.name() == kind).expect("every op has a case");
    change(&mut case);
    for backend in [&Cpu::new(1) as &dyn Backend, &Plain::new()] {
        let error = run(backend, &case, Dtype::F32, Write::Set).expect_err(text);
        assert!(error.0.contains(text), "{}: {error}", backend.name());
    }
}

#[test]
fn operands_that_do_not_fit_are_refused() {
    refuses("linear", |case| case.inputs[1].shape = vec![1, 1, 1], "shape mismatch of `w`, [1, 1, 1]");
    refuses("linear", |case| case.inputs.truncate(1), "1 operands for");
    refuses("embed", |case| case.inputs[0] = index(vec![7]), "`index`[0] is 7, outside of 0..1");
    refuses("attention", |case| case.inputs[3] = index(vec![0, 2]), "cu_seqlens run from");
    let prefix = "`prefixes`[0] is 1, its trunk has 0 tokens";
    refuses("attention", |case| case.inputs.push(index(vec![1])), prefix);
    let drop = |case: &mut Case| {
        let dropout = Some(Dropout { p: 0.1, site: 1 });
        case.kind = OpKind::Attention(Attention { dropout, ..crate::cases::attention(1, 1, 1) });
        case.inputs.push(index(vec![0]));
    };
    refuses("attention", drop, "dropout and prefixes exclude each other");
    refuses("rope", |case| case.inputs[1] = index(vec![0, 1]), "shape mismatch of `positions`");
    refuses("act", |case| case.inputs[0] = index(vec![1]), "`x` is i32, not f32");
    refuses("cache_append", |_| (), "cannot be written with Set");
}
