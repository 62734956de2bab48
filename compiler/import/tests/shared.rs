//! The real files of the four tools: each becomes a recipe that checks, or is refused with a reason,
//! and every key of every file has a line.

mod support;

use import::{Outcome, import};
use std::path::{Path, PathBuf};

/// Returns the folder of real files, if it is there.
///
/// # Panics
/// Panics when it is not and `ADAPT_REQUIRE_SHARED` is 1.
fn configs() -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let shared = std::env::var_os("ADAPT_SHARED").map_or_else(|| root.join("../shared"), PathBuf::from);
    let path = shared.join("data/configs");
    if path.exists() {
        return Some(path);
    }
    assert!(std::env::var_os("ADAPT_REQUIRE_SHARED").is_none_or(|value| value != "1"), "{path:?} is missing");
    eprintln!("skipped: {} is not here; ADAPT_SHARED says where", path.display());
    None
}

/// The files that are refused, each with a part of the reason.
const REFUSED: [(&str, &str); 9] = [
    ("uclaml-sppo__config_full", "no DPO loss `rpo`"),
    ("zephyr-7b-beta__dpo__config_full", "no DPO loss `rpo`"),
    ("zephyr-7b-beta__dpo__config_qlora.", "no DPO loss `rpo`"),
    ("zephyr-7b-beta__dpo__config_qlora_rpo", "no DPO loss `rpo`"),
    ("axolotl-mistral-7b", "text rows and instruction rows"),
    ("axolotl-yi-34b", "text rows and instruction rows"),
    ("qwen2_1_5b_summarize", "`chatml.intel_prefilled` is none of axolotl's types"),
    ("wauwau0977__FineTuningTrial__axolotl__config.yml", "no dataset type `text`"),
    ("cpt_stage_3_annealing", "in the middle of another run"),
];

#[test]
fn every_real_file_is_imported_or_refused_with_its_reason() {
    let Some(folder) = configs() else { return };
    let mut count = 0;
    for entry in std::fs::read_dir(folder).expect("the folder is readable") {
        let path = entry.expect("an entry is readable").path();
        let file = path.file_name().and_then(|name| name.to_str()).expect("a plain name").to_owned();
        if !file.ends_with(".yml") && !file.ends_with(".yaml") {
            continue;
        }
        count += 1;
        let text = std::fs::read_to_string(&path).expect("a file is text");
        let refused = REFUSED.iter().find(|(part, _)| file.contains(part));
        match (import(&text, &file), refused) {
            (Ok(imported), None) => {
                support::assert_sound(&file, &text, &imported);
                assert_parents_and_secrets(&file, &imported.report);
            }
            (Err(problems), Some((_, reason))) => {
                let found = problems.iter().any(|problem| problem.message.contains(reason));
                assert!(found, "{file}: {problems:?}");
                assert!(problems.iter().all(|problem| problem.line >= 1 && !problem.help.is_empty()));
            }
            (Ok(_), Some(_)) => panic!("{file} is refused, it says above"),
            (Err(problems), None) => panic!("{file}: {problems:#?}"),
        }
    }
    assert_eq!(count, 62);
}

fn assert_parents_and_secrets(file: &str, report: &[import::Entry]) {
    let carried = report.iter().filter(|entry| matches!(entry.outcome, Outcome::Carried | Outcome::Changed));
    assert!(carried.count() >= 5, "{file}: hardly anything was carried over");
}
