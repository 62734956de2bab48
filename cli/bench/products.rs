//! Products of a layer and of the head, as a training step computes them.

use super::{Bench, load, print};
use ops::probe::products::{Product, Shape};
use plan::value::Dtype;
use serde_json::json;

/// Measure the products of a layer and of the head, in f32 and bf16
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  adapt bench products                 2048 tokens: 768 to 3072, and 576 to a vocabulary of 49152
  adapt bench products --quick         small shapes, in a second")]
pub struct Args {
    /// Small shapes and few calls: whether it works, not how fast it is
    #[arg(long)]
    quick: bool,
}

/// Of a layer, and of the head.
const WHOLE: [Shape; 2] =
    [Shape { tokens: 2048, inputs: 768, outputs: 3072 }, Shape { tokens: 2048, inputs: 576, outputs: 49152 }];
const QUICK: [Shape; 2] =
    [Shape { tokens: 128, inputs: 128, outputs: 256 }, Shape { tokens: 128, inputs: 64, outputs: 1024 }];

/// Prints a line for each product and format.
pub fn run(args: &Args, bench: &Bench) -> Result<(), String> {
    let ([layer, head], times): (_, usize) = if args.quick { (QUICK, 3) } else { (WHOLE, 15) };
    for product in Product::ALL {
        // A call of the head takes as long as many of a layer.
        let (shape, times) =
            if product == Product::Head { (head, times.div_ceil(3)) } else { (layer, times) };
        for format in [Dtype::F32, Dtype::Bf16] {
            let timed = product.time(&bench.cpu, shape, format, times);
            let reached = product.flops(shape) / timed.best;
            print(&json!({
                "bench": "product",
                "product": product.name(),
                "precision": format.name(),
                "tokens": shape.tokens,
                "inputs": shape.inputs,
                "outputs": shape.outputs,
                "threads": bench.threads,
                "best_s": timed.best,
                "median_s": timed.median,
                "gflops": reached / 1e9,
                "share_of_peak": bench.share(reached, format),
                "load": load(),
            }))?;
        }
    }
    Ok(())
}
