//! The cpu backend in f32 against the plain backend in f64 and f32.

use crate::cases::{cases, tolerance};
use crate::harness::{distance, run, usual_write};
use ops::backend::Backend;
use ops::cpu::Cpu;
use plain::Plain;
use plan::op::Write;
use plan::value::Dtype;

/// Collects what disagrees, so that one run shows everything.
fn compare(fused: &dyn Backend, float: Dtype, write_of: impl Fn(Write) -> Write) {
    let plain = Plain::new();
    let mut wrong = Vec::new();
    for case in cases() {
        let write = write_of(usual_write(&case.kind));
        let got =
            run(fused, &case, Dtype::F32, write).unwrap_or_else(|error| panic!("{}: {error}", case.name));
        let expected =
            run(&plain, &case, float, write).unwrap_or_else(|error| panic!("{}: {error}", case.name));
        let (most, reason) = tolerance(&case.kind);
        for (output, (got, expected)) in got.iter().zip(&expected).enumerate() {
            let error = distance(got, expected);
            // In f32 both round; a sum with what is there rounds where a copy did not.
            let most = if float == Dtype::F32 { 2.0 * most } else { most };
            let most = if write == Write::Add { most.max(1e-7) } else { most };
            if error.is_nan() || error > most {
                wrong.push(format!(
                    "{}: output {output} is off by {error:.1e} > {most:.0e} ({reason})",
                    case.name
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn cpu_agrees_with_plain_in_f64() {
    compare(&Cpu::new(2), Dtype::F64, |usual| usual);
}

#[test]
fn cpu_agrees_with_plain_in_f32() {
    compare(&Cpu::new(1), Dtype::F32, |usual| usual);
}

#[test]
fn add_adds_to_what_is_there() {
    compare(&Cpu::new(2), Dtype::F64, |usual| if usual == Write::Set { Write::Add } else { usual });
}
