//! The cpu backend in f32 against the plain backend in f64 and f32.

use crate::cases::{cases, tolerance};
use crate::harness::{distance, dtypes, run, usual_write};
use ops::backend::Backend;
use ops::cpu::Cpu;
use plain::Plain;
use plan::op::{OpKind, Write};
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

/// The cpu backend on bf16 operands against itself in f32 on the same numbers, where it agrees with plain: all
/// products and sums are made in f32, so that only what is stored in bf16 is coarser.
#[test]
fn cpu_in_bf16_rounds_only_what_it_stores() {
    let fused = Cpu::new(2);
    let mut wrong = Vec::new();
    for mut case in cases() {
        let write = usual_write(&case.kind);
        let (inputs, outputs) = dtypes(&case, Dtype::Bf16);
        case.inputs = case.inputs.iter().zip(&inputs).map(|(x, dtype)| x.rounded(*dtype)).collect();
        case.outputs = case.outputs.iter().zip(&outputs).map(|(y, dtype)| y.rounded(*dtype)).collect();
        let of = |format| run(&fused, &case, format, write).unwrap_or_else(|e| panic!("{}: {e}", case.name));
        let (got, expected) = (of(Dtype::Bf16), of(Dtype::F32));
        for (output, (got, expected)) in got.iter().zip(&expected).enumerate() {
            let error = distance(got, expected);
            let residual = matches!(case.kind, OpKind::RmsNorm { .. } | OpKind::LayerNorm { .. });
            // bf16 has eight bits. What is normalised is the sum as it is stored, so that it counts twice.
            let most = match outputs[output] {
                Dtype::Bf16 if residual => 2.0 / 256.0,
                Dtype::Bf16 => 1.0 / 256.0,
                _ if residual => 1.0 / 256.0,
                // Pairs of bf16 are rounded once more where the processor multiplies them.
                _ => 1e-5,
            };
            if error.is_nan() || error > most {
                wrong.push(format!("{}: output {output} is off by {error:.1e} > {most:.0e}", case.name));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn add_adds_to_what_is_there() {
    compare(&Cpu::new(2), Dtype::F64, |usual| if usual == Write::Set { Write::Add } else { usual });
}
