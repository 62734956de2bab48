//! Results are bit-equal for any number of threads.

use crate::cases::cases;
use crate::harness::{Case, Numbers, run, usual_write};
use ops::cpu::Cpu;
use plan::op::OpKind;
use plan::value::Dtype;

/// Cases of the table, and products large enough to be cut.
fn all() -> Vec<Case> {
    let mut numbers = Numbers::new(9);
    let mut all = cases();
    for (n, i, o) in
        [(1000, 300, 500), (3, 2000, 3000), (5000, 64, 64), (64, 5000, 100), (1, 700, 5000), (900, 900, 1)]
    {
        let kind = OpKind::Linear { quantized: None, adapter: None };
        all.push(Case {
            name: format!("{n}×{i}×{o}"),
            kind,
            inputs: vec![numbers.floats(&[n, i], 1.0), numbers.floats(&[o, i], 1.0)],
            outputs: vec![numbers.floats(&[n, o], 1.0)],
        });
    }
    all
}

#[test]
fn results_are_bit_equal_for_any_number_of_threads() {
    let backends = [1, 2, 3].map(Cpu::new);
    for case in all() {
        let [one, others @ ..] = &backends;
        let write = usual_write(&case.kind);
        let run =
            |cpu| run(cpu, &case, Dtype::F32, write).unwrap_or_else(|error| panic!("{}: {error}", case.name));
        let bits =
            |outputs: Vec<Vec<f64>>| -> Vec<u64> { outputs.concat().iter().map(|x| x.to_bits()).collect() };
        let expected = bits(run(one));
        for cpu in others {
            assert_eq!(bits(run(cpu)), expected, "{}", case.name);
        }
    }
}
