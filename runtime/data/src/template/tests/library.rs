//! The templates of `std:` against those that models were published with.

use super::{exchange, messages};
use crate::row::{Message, Role};
use crate::template::{ChatTemplate, Rendered, Specials};
use crate::tests::shared;
use Role::{Assistant, System, Tool, User};
use serde_json::Value;

/// Templates of the library with the published ones that they render like: with a system message, and without.
///
/// The only plain copy of Llama 2's that leaves the system message as it is adds one where there is none.
const PUBLISHED: [(&str, &str, &str); 8] = [
    ("chatml", "EricLBuehler__chat_templates__chatml.json", "EricLBuehler__chat_templates__chatml.json"),
    (
        "llama2",
        "EricLBuehler__chat_templates__default.json",
        "chujiezheng__chat_templates__llama-2-chat.jinja",
    ),
    ("llama3", "huggingface__trl__chat_templates__llama3.jinja", "EricLBuehler__chat_templates__llama3.json"),
    (
        "mistral",
        "axolotl-ai-cloud__src__axolotl__utils__chat_templates__templates__mistral_v1.jinja",
        "axolotl-ai-cloud__src__axolotl__utils__chat_templates__templates__mistral_v1.jinja",
    ),
    (
        "gemma",
        "huggingface__trl__chat_templates__gemma3.jinja",
        "chujiezheng__chat_templates__gemma-it.jinja",
    ),
    ("phi3", "huggingface__trl__chat_templates__phi3_5.jinja", "EricLBuehler__chat_templates__phi3.5.json"),
    (
        "qwen25",
        "axolotl-ai-cloud__src__axolotl__utils__chat_templates__templates__qwen_25.jinja",
        "chujiezheng__chat_templates__qwen2.5-instruct.jinja",
    ),
    ("zephyr", "chujiezheng__chat_templates__zephyr.jinja", "chujiezheng__chat_templates__zephyr.jinja"),
];

fn library(name: &str) -> ChatTemplate {
    ChatTemplate::new(stdlib::template(name).expect("in the library")).expect(name)
}

fn specials() -> Specials<'static> {
    Specials::named("<s>", "</s>")
}

/// Conversations that end with an answer or a question, with space around contents where templates differ in it.
fn conversations() -> Vec<Vec<Message>> {
    let plain = [(User, "Hoi"), (Assistant, "Dag."), (User, "Meer?\n"), (Assistant, " Nee: <b>&\"'</b> ")];
    let mut found = Vec::new();
    for length in 1..=plain.len() {
        found.push(messages(&plain[..length]));
        found.push([messages(&[(System, "Je bent\neen hulp.")]), messages(&plain[..length])].concat());
    }
    found
}

/// The text of a conversation without space around what is said.
fn trimmed(chat: &[Message]) -> Vec<Message> {
    chat.iter().map(|message| Message::new(message.role, message.content.trim())).collect()
}

#[test]
fn they_render_as_the_published_ones() {
    let Some(folder) = shared("data/chat-templates") else { return };
    for (name, with_system, without) in PUBLISHED {
        let ours = library(name);
        for chat in conversations() {
            // The published copies of these two trim contents that the library's leave as they are.
            let chat = if matches!(name, "gemma" | "zephyr") { trimmed(&chat) } else { chat };
            let file = if chat[0].role == System { with_system } else { without };
            let theirs = published(&folder.join(file));
            for open in [false, true] {
                let expected = theirs.text(&chat, open, &specials()).expect(file);
                // This one leaves the bos to the tokenizer.
                let expected =
                    if file.ends_with("gemma-it.jinja") { format!("<s>{expected}") } else { expected };
                assert_eq!(ours.text(&chat, open, &specials()), Ok(expected), "{name} {chat:?} {open}");
            }
        }
    }
}

fn published(path: &std::path::Path) -> ChatTemplate {
    let text = std::fs::read_to_string(path).expect("a template");
    let inside = serde_json::from_str(&text)
        .ok()
        .and_then(|file: Value| file["chat_template"].as_str().map(str::to_owned));
    // Files that are laid out over indented lines are meant to be joined before use.
    let is_laid_out = text.contains("\n    {% ") && inside.is_none();
    let text = if is_laid_out { text.replace("    ", "").replace('\n', "") } else { text };
    ChatTemplate::new(&inside.unwrap_or(text)).expect("a template")
}

#[test]
fn gemma_renders_as_its_tokenizer_says() {
    let Some(path) = shared("data/tokenizer-configs/Google__Gemma3__gemma-3-4b-it__tokenizer_config.json")
    else {
        return;
    };
    let theirs = published(&path);
    for chat in conversations() {
        for open in [false, true] {
            let expected = theirs.text(&chat, open, &specials());
            assert_eq!(library("gemma").text(&chat, open, &specials()), expected, "{chat:?}");
        }
    }
}

/// What they say of one conversation, here in full, so that it is known without the published ones.
#[test]
fn they_render_as_written_down() {
    for (name, expected) in [
        (
            "alpaca-es",
            "Kort.\n\n### Instrucción:\nHoi\n\n### Respuesta:\nDag.</s>\n\n### Instrucción:\nMeer\n\n### Respuesta:\n Nee. </s>\n\n",
        ),
        (
            "alpaca",
            "Kort.\n\n### Instruction:\nHoi\n\n### Response:\nDag.</s>\n\n### Instruction:\nMeer\n\n### Response:\n Nee. </s>\n\n",
        ),
        (
            "llama2",
            "<s>[INST] <<SYS>>\nKort.\n<</SYS>>\n\nHoi [/INST] Dag. </s><s>[INST] Meer [/INST] Nee. </s>",
        ),
        (
            "llama3",
            "<s><|start_header_id|>system<|end_header_id|>\n\nKort.<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nHoi<|eot_id|>\
                    <|start_header_id|>assistant<|end_header_id|>\n\nDag.<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nMeer<|eot_id|>\
                    <|start_header_id|>assistant<|end_header_id|>\n\nNee.<|eot_id|>",
        ),
        ("mistral", "<s> [INST] Kort.\n\nHoi [/INST] Dag.</s> [INST] Meer [/INST]  Nee. </s>"),
        (
            "gemma",
            "<s><start_of_turn>user\nKort.\n\nHoi<end_of_turn>\n<start_of_turn>model\nDag.<end_of_turn>\n\
                   <start_of_turn>user\nMeer<end_of_turn>\n<start_of_turn>model\nNee.<end_of_turn>\n",
        ),
        (
            "phi3",
            "<|system|>\nKort.<|end|>\n<|user|>\nHoi<|end|>\n<|assistant|>\nDag.<|end|>\n<|user|>\nMeer<|end|>\n<|assistant|>\n Nee. <|end|>\n</s>",
        ),
        (
            "qwen25",
            "<|im_start|>system\nKort.<|im_end|>\n<|im_start|>user\nHoi<|im_end|>\n<|im_start|>assistant\nDag.<|im_end|>\n\
                    <|im_start|>user\nMeer<|im_end|>\n<|im_start|>assistant\n Nee. <|im_end|>\n",
        ),
    ] {
        assert_eq!(library(name).text(&exchange(), false, &specials()).as_deref(), Ok(expected), "{name}");
    }
}

/// A model is asked for an answer after exactly the text after which it was trained to give one.
#[test]
fn what_is_trained_follows_the_prompt_that_opens_an_answer() {
    let entries = stdlib::schema::TEMPLATES.iter().map(|entry| entry.name);
    for name in entries {
        let template = library(name);
        assert!(template.has_generation_marks(), "{name}");
        let chat = exchange();
        let Rendered { text, trained, .. } = template.render(&chat, false, &specials()).expect(name);
        assert_eq!(trained.len(), 2, "{name}");
        for (span, until) in trained.iter().zip([2, 4]) {
            let prompt = template.text(&chat[..until], true, &specials()).expect(name);
            assert_eq!(text[..span.start], prompt, "{name}");
            let answer = &text[span.clone()];
            assert!(answer.contains(chat[until].content.trim()), "{name}: {answer:?}");
            let ends = ["</s>", "<|im_end|>", "<|eot_id|>", "<end_of_turn>", "<|end|>"];
            assert!(ends.iter().any(|end| answer.ends_with(end)), "{name}: {answer:?}");
        }
    }
}

#[test]
fn orders_of_roles_that_they_do_not_know_are_refused() {
    let wrong = [
        messages(&[(Assistant, "a")]),
        messages(&[(User, "a"), (User, "b")]),
        messages(&[(User, "a"), (System, "b")]),
        messages(&[(User, "a"), (Assistant, "b"), (Tool, "c")]),
        messages(&[(User, "a"), (Tool, "b"), (User, "c")]),
    ];
    for name in ["llama2", "mistral", "gemma"] {
        for chat in &wrong {
            let error = library(name).text(chat, false, &specials()).expect_err(name);
            assert_eq!(error.code, "template-refuses-row", "{name} {chat:?}");
        }
    }
    for name in ["phi3", "alpaca-es"] {
        let error = library(name).text(&wrong[3], false, &specials()).expect_err(name);
        assert!(error.message.contains("no turn for the role tool"), "{name}: {}", error.message);
    }
}

/// What a tool says is part of a user's turn in Qwen2.5; several stand in one.
#[test]
fn answers_of_tools_stand_in_turns_of_the_user() {
    let chat = messages(&[
        (User, "weer?"),
        (Assistant, "ik kijk"),
        (Tool, "12"),
        (Tool, "zon"),
        (Assistant, "zonnig"),
    ]);
    let text = library("qwen25").text(&chat, false, &specials()).expect("rendered");
    let turn = "<|im_start|>user\n<tool_response>\n12\n</tool_response>\n<tool_response>\nzon\n</tool_response><|im_end|>\n";
    assert!(text.contains(turn), "{text}");
    let Some(folder) = shared("data/chat-templates") else { return };
    let theirs = published(&folder.join(PUBLISHED[6].1));
    assert_eq!(theirs.text(&chat, false, &specials()), Ok(text));
}
