//! Files that do not become a recipe: the reason, and its place.

use import::import;

/// The base of an axolotl file, to which each case adds its trap.
const AXOLOTL: &str = "base_model: a/b\ndatasets:\n  - path: c/d\n    type: alpaca\nsequence_len: 512\nmicro_batch_size: 1\ngradient_accumulation_steps: 1\nnum_epochs: 1\nlearning_rate: 1.0e-4\n";

fn first(text: &str) -> (String, u32, u32) {
    let problems = import(text, "a.yml").expect_err("it is refused");
    let problem = problems.into_iter().next().expect("with a reason");
    assert!(text.is_char_boundary(problem.start as usize) && problem.start <= problem.end);
    assert!(!problem.message.ends_with('.') && !problem.help.is_empty(), "{problem:?}");
    (problem.message, problem.line, problem.column)
}

fn trap(line: &str) -> (String, u32, u32) {
    first(&format!("{AXOLOTL}{line}\n"))
}

#[test]
fn what_the_language_does_not_train_is_refused_at_its_value() {
    for (line, reason, column) in [
        ("rl: ebft", "the language has no objective `ebft`", 5),
        ("rl: grpo", "the language has no objective `grpo`", 5),
        ("reward_model: true", "a reward model is trained", 15),
        ("processor_type: AutoProcessor", "images or sound", 17),
        ("lora_model_dir: ./old", "goes on from an adapter", 17),
        ("load_in_8bit: true", "without `adapter`", 15),
        ("optimizer: galore_adamw", "no optimizer `galore_adamw`", 12),
        ("lr_scheduler: one_cycle", "no schedule `one_cycle`", 15),
        ("plugins: [axolotl.integrations.kd.KDPlugin]", "the plugin `KDPlugin`", 10),
        ("unfrozen_parameters: [lm_head.*]", "frozen by patterns", 22),
        (
            "adapter: qlora\nlora_r: 8\nlora_alpha: 8\nlora_target_linear: true",
            "needs `load_in_4bit: true`",
            10,
        ),
        ("fp8: true", "no precision", 6),
    ] {
        let (message, at, found) = trap(line);
        assert!(message.contains(reason), "{line}: {message}");
        assert_eq!((at, found), (10, column), "{line}");
    }
}

#[test]
fn values_that_no_recipe_may_have_are_refused_in_its_words() {
    for (line, reason) in [
        ("learning_rate: 50", "in the recipe"),
        ("learning_rate: .inf", "`learning_rate` takes a number"),
        ("learning_rate: [1, 2]", "`learning_rate` takes a number"),
        ("micro_batch_size: 0", "in the recipe"),
        ("micro_batch_size: 99999999", "in the recipe"),
        ("micro_batch_size: 1.5", "`micro_batch_size` takes a whole number"),
        ("sequence_len: 1", "in the recipe"),
        ("val_set_size: -1", "`val_set_size` is a share"),
        ("warmup_ratio: 2.0", "in the recipe"),
        ("seed: true", "`seed` takes a number"),
    ] {
        let (message, at, _) = trap(line);
        assert!(message.contains(reason), "{line}: {message}");
        assert_eq!(at, 10, "{line}");
    }
}

#[test]
fn a_reason_is_one_line_whatever_the_file_says() {
    let merge = "models:\n  - model: a/b\nmerge_method: |\n  over\n  lines\ndtype: float32\n";
    let (message, line, _) = first(merge);
    assert!(!message.contains(char::is_control) && message.contains(r"`over\n"), "{message}");
    assert_eq!(line, 4);
    let imported =
        import(&format!("{AXOLOTL}\"k\\e[31m\\ny\": 1\n"), "a.yml").expect("an unknown key is no reason");
    let account = import::render(&imported.report);
    assert!(!account.contains('\u{1b}') && account.contains(r"k\u{1b}[31m\ny"), "{account}");
}

#[test]
fn patterns_in_targets_are_refused_and_pieces_of_paths_are_not() {
    let lora = "adapter: lora\nlora_r: 8\nlora_alpha: 8\nlora_target_modules: ";
    let pattern = r"'model.layers.[\d]+.(mlp|self_attn).(up|q)_proj'";
    assert!(trap(&format!("{lora}{pattern}")).0.contains("named by a pattern"));
    assert!(import(&format!("{AXOLOTL}{lora}[self_attn.q_proj]\n"), "a.yml").is_ok());
    assert!(trap("adapter: lora\nlora_r: 8\nlora_alpha: 8").0.contains("`lora_target_modules` is missing"));
}

#[test]
fn rows_of_other_shapes_are_refused() {
    for (kind, reason) in [
        ("input_output", "fit no row type"),
        ("jeopardy", "fit no row type"),
        ("alpcaa", "axolotl has no dataset type `alpcaa`"),
        ("text", "axolotl has no dataset type `text`"),
    ] {
        let text = AXOLOTL.replace("type: alpaca", &format!("type: {kind}"));
        let (message, at, column) = first(&text);
        assert!(message.contains(reason), "{kind}: {message}");
        assert_eq!((at, column), (4, 11));
    }
    let two = AXOLOTL.replace("sequence_len", "  - path: e/f\n    type: completion\nsequence_len");
    assert_eq!(
        first(&two).0,
        "instruction rows and text rows are trained in one run, but a stage takes rows of one type"
    );
    let image = AXOLOTL.replace("path: c/d", "path: s3://bucket/x.jsonl");
    assert!(first(&image).0.contains("does not read data from `s3://"));
}

#[test]
fn files_of_none_of_the_four_are_told_so() {
    for (text, reason) in [
        ("", "the file is empty"),
        ("# nothing\n", "the file is empty"),
        ("just text\n", "the file holds no keys"),
        ("- a\n- b\n", "the file holds no keys"),
        ("name: ci\nsteps: []\n", "no file of axolotl"),
        ("model_name_or_path: a/b\nfinetuning_type: lora\ndataset: x\n", "LLaMA-Factory"),
        ("base_model: a\ngate_mode: hidden\nexperts: []\n", "mergekit-moe"),
        ("base_model: a/b\n", "nothing says what is done with `base_model`: it needs axolotl's `datasets`"),
        ("merge_method: slerp\nbase_model: a/b\n", "it needs mergekit's `models`"),
        ("model_name_or_path: a/b\n", "it needs alignment-handbook's `dataset_mixer`"),
        ("checkpoint_dir: a/b\n", "it needs LitGPT's `data`"),
        ("a: [1\n", "this is not YAML"),
        ("a: !!python/object:os.system x\n", "the tag"),
    ] {
        let (message, ..) = first(text);
        assert!(message.contains(reason), "{text}: {message}");
    }
    let two = format!("{AXOLOTL}---\nbase_model: x\n");
    assert_eq!(first(&two), ("axolotl reads one document, and here a second begins".into(), 11, 1));
    assert_eq!(first(&"a: 1\n".repeat(1 << 18)).1, 1);
    assert!(first(&format!("base_model: x\ndatasets: {}", "[".repeat(70))).0.contains("deep"));
}

#[test]
fn merges_of_parts_of_models_are_refused() {
    let merge = |rest: &str| {
        first(&format!(
            "merge_method: slerp\nbase_model: a/b\nmodels:\n  - model: a/b\n  - model: c/d\n{rest}"
        ))
    };
    assert!(
        merge("parameters:\n  t:\n    - filter: mlp\n      value: 0.5\n    - value: 0.3\n")
            .0
            .contains("differs by the kind of weight")
    );
    assert!(merge("").0.contains("`parameters.t` is missing"));
    let slices = "merge_method: passthrough\nslices:\n  - sources:\n      - model: a/b\n        layer_range: [0, 24]\n  - sources:\n      - model: a/b\n        layer_range: [8, 32]\n";
    assert!(first(slices).0.contains("stacked"));
    assert!(
        first("merge_method: karcher\nmodels:\n  - model: a/b\n").0.contains("no merge method `karcher`")
    );
    assert!(
        first("merge_method: linear\nmodels:\n  - model: a/b+c/lora\n    parameters: {weight: 1}\n")
            .0
            .contains("an adapter stands on the model")
    );
}

#[test]
fn litgpt_goes_on_from_no_other_run() {
    let text = "resume: true\ndata: litgpt.data.OpenWebText\ntokenizer_dir: t\ntrain:\n  global_batch_size: 8\n  max_tokens: 1000000\n";
    assert_eq!(first(text).1, 1);
}

#[test]
fn secrets_are_not_printed() {
    let secret = "hf_abcdefghijklmnopqrstuvwxyz012345";
    let (message, ..) = trap(&format!("rl: {secret}"));
    assert!(!message.contains(secret), "{message}");
    let text = format!("{AXOLOTL}hub_token: {secret} # {secret}\n# {secret}\nseed: 1 # {secret}\n");
    let imported = import(&text, "a.yml").expect("the token is left out");
    let report = import::render(&imported.report);
    assert!(!imported.recipe.contains(secret) && !report.contains(secret), "{}", imported.recipe);
}
