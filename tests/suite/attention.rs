//! The real input needs attention: the same run, with attention cut to one token of context, learns much less.
//!
//! Slow (about ten minutes in an optimised build): runs with `ADAPT_SLOW=1`.

use engine::folder::RunFolder;
use engine::observer::Silent;
use engine::record::Record;
use engine::run::{Options, Outcome, run_task};
use ops::cpu::Cpu;
use plan::op::OpKind;
use plan::task::{Key, Plan};
use plan::work::Work;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::AtomicBool;

/// What the adapted model must reach in bits per byte, and what a model that does not attend must miss.
const RECIPES: [(&str, f64); 2] = [("stories-nl", 1.5), ("stories-es", 2.2)];

#[test]
fn a_model_that_cannot_attend_misses_the_figure_that_one_that_can_reaches() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    if std::env::var_os("ADAPT_SLOW").is_none() {
        eprintln!("skipped: set ADAPT_SLOW=1 to adapt the real model twice to each language");
        return;
    }
    if !root.join("../shared/data/model-stories260K").is_dir() {
        assert!(std::env::var_os("ADAPT_REQUIRE_SHARED").is_none(), "the shared data is missing");
        eprintln!("skipped: the shared data is not beside the checkout");
        return;
    }
    for (recipe, bound) in RECIPES {
        let place = tempfile::tempdir().unwrap();
        let (run, cache) = (place.path().join("run"), place.path().join("cache"));
        let status = Command::new(env!("CARGO_BIN_EXE_adapt"))
            .args(["run", &format!("recipes/{recipe}.kdl"), "--out"])
            .arg(&run)
            .current_dir(root)
            .env("ADAPT_CACHE", &cache)
            .status()
            .unwrap();
        assert!(status.success());
        let attending = bits_per_byte(&run);
        let cut = without_attention(&run, &cache);
        println!("{recipe}: {attending:.3} bits per byte, {cut:.3} with one token of context, {bound} asked");
        assert!(attending <= bound, "{recipe}: {attending}");
        assert!(cut > bound, "{recipe}: {cut} without attention");
    }
}

fn bits_per_byte(run: &Path) -> f64 {
    let record = Record::read(&run.join("adapted")).unwrap();
    record.summary.after.unwrap().bits_per_byte.unwrap()
}

/// Trains the stage again with a window of one token in every attention op.
fn without_attention(run: &Path, cache: &Path) -> f64 {
    let plan: Plan = serde_json::from_str(&std::fs::read_to_string(run.join("plan.json")).unwrap()).unwrap();
    let mut task = plan.task("adapted").unwrap().clone();
    let Work::Train(work) = &mut task.work else { panic!("`adapted` trains") };
    let module = work.module.as_mut().unwrap();
    let mut cut = 0;
    for op in module.programs.iter_mut().flat_map(|program| &mut program.ops) {
        if let OpKind::Attention(attention) | OpKind::AttentionGrad(attention) = &mut op.kind {
            attention.window = Some(1);
            cut += 1;
        }
    }
    assert!(cut > 0);
    task.key = Some(Key("one-token-of-context".into()));
    let folder = RunFolder::open(run, cache, "test").unwrap();
    let backend = Cpu::new(2);
    let ended =
        run_task(&task, &folder, &backend, &mut Silent, &AtomicBool::new(false), &Options { fork: false });
    assert!(matches!(ended.unwrap(), Outcome::Done(_)));
    bits_per_byte(run)
}
