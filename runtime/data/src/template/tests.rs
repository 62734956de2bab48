//! Templates: rendered text, spans, refusals, against transformers where it was asked.

mod library;

use super::*;
use crate::tests::{golden, golden_tokenizer, shared};
use serde_json::Value;

fn messages(list: &[(Role, &str)]) -> Vec<Message> {
    list.iter().map(|(role, content)| Message::new(*role, *content)).collect()
}

fn exchange() -> Vec<Message> {
    use Role::{Assistant, System, User};
    messages(&[(System, "Kort."), (User, "Hoi"), (Assistant, "Dag."), (User, "Meer"), (Assistant, " Nee. ")])
}

/// Returns the trained texts of an exchange of two answers.
fn trained(jinja: &str, chat: &[Message]) -> Result<Vec<String>, DataError> {
    let rendered = ChatTemplate::new(jinja)?.render(chat, false, &Specials::named("<s>", "</s>"))?;
    assert!(!rendered.text.contains([OPEN, CLOSE, GUARD]));
    Ok(rendered.trained.iter().map(|span| rendered.text[span.clone()].to_owned()).collect())
}

#[test]
fn marks_decide_what_is_trained() {
    let jinja = "{% for m in messages %}\n{{ m.role }}: {% if m.role == 'assistant' %}\
                 {%- generation -%} {{ m.content }}</s>{% endgeneration %}\n{% else %}{{ m.content }}{% endif %}{% endfor %}";
    assert_eq!(trained(jinja, &exchange()), Ok(vec!["Dag.</s>".into(), " Nee. </s>".into()]));
}

#[test]
fn without_marks_the_structure_decides() {
    let jinja = "{{ bos_token }}{% for m in messages %}[{{ m.role }}]{{ m.content }}</s>\n{% endfor %}";
    assert_eq!(trained(jinja, &exchange()), Ok(vec!["Dag.</s>".into(), " Nee. </s>".into()]));
    // Contents that are trimmed are found all the same.
    let jinja = "{% for m in messages %}[{{ m.role }}] {{ m.content | trim }}\n</s>\n{% endfor %}";
    assert_eq!(trained(jinja, &exchange()), Ok(vec!["Dag.\n</s>".into(), "Nee.\n</s>".into()]));
    // Without a special token the whole end of the turn is trained, and nothing of the next message.
    let jinja = "{% for m in messages %}<{{ m.role }}>{{ m.content }}</{{ m.role }}>\n{% endfor %}";
    let expected = vec!["Dag.</assistant>".to_owned(), " Nee. </assistant>".to_owned()];
    assert_eq!(trained(jinja, &exchange()), Ok(expected));
}

#[test]
fn an_answer_that_is_said_before_is_not_mistaken() {
    use Role::{Assistant, User};
    let chat = messages(&[(User, "zeg: ja</s>"), (Assistant, "ja")]);
    let jinja = "{% for m in messages %}{{ m.content }}</s>{% endfor %}";
    let rendered =
        ChatTemplate::new(jinja).expect("a template").render(&chat, false, &Specials::named("<s>", "</s>"));
    assert_eq!(rendered.expect("an exchange").trained.first(), Some(&(15..21)));
}

#[test]
fn a_template_that_hides_its_structure_is_refused() {
    for jinja in [
        "{% for m in messages %}{{ m.content | upper | replace('\u{FDD0}', '') }}</s>{% endfor %}",
        "{% for m in messages %}{{ m.content }}{{ '</s>' if loop.last else '|' }}{% endfor %}",
    ] {
        assert_eq!(trained(jinja, &exchange()).expect_err(jinja).code, "template-needs-marks");
    }
}

#[test]
fn errors_say_what_the_template_said() {
    let error = ChatTemplate::new("a\n{% for %}").expect_err("no template");
    assert_eq!(error.code, "bad-template");
    assert!(error.message.contains("line 2"), "{}", error.message);
    let error = trained("{{ raise_exception('roles must alternate') }}", &exchange()).expect_err("refused");
    assert_eq!(error.message, "the chat template refuses the row: roles must alternate");
    let mut chat = exchange();
    chat[0].content.push(OPEN);
    assert_eq!(trained("{{ messages[0].content }}", &chat).expect_err("private").code, "bad-row");
}

#[test]
fn json_is_written_as_python_writes_it() {
    let jinja = "{{ {'b': [1, 2.5, none], 'a': '<é>&\"'} | tojson }}|{{ [1, {'x': []}] | tojson(indent=2) }}|\
                 {{ {'b': 1, 'a': 'é'} | tojson(sort_keys=true, ensure_ascii=true, separators=(',', ':')) }}";
    let text = ChatTemplate::new(jinja).and_then(|template| template.text(&[], false, &Specials::default()));
    let expected = "{\"b\": [1, 2.5, null], \"a\": \"<é>&\\\"\"}|[\n  1,\n  {\n    \"x\": []\n  }\n]|{\"a\":\"\\u00e9\",\"b\":1}";
    assert_eq!(text.as_deref(), Ok(expected));
}

#[test]
fn golden_chats_render_and_mask_exactly() {
    let (golden, tokenizer) = (golden(), golden_tokenizer());
    let jinja = tokenizer.chat_template().expect("the folder has one");
    let template = ChatTemplate::new(jinja).expect("a template");
    let specials = Specials::of(&tokenizer);
    for case in golden["chat"].as_array().expect("a list") {
        let chat: Vec<Message> = serde_json::from_value(case["messages"].clone()).expect("messages");
        let rendered = template.render(&chat, false, &specials).expect("rendered");
        assert_eq!(rendered.text, case["rendered"]);
        let open = template.text(&chat[..chat.len() - 1], true, &specials).expect("rendered");
        assert_eq!(open, case["with_generation_prompt"]);
    }
}

/// Goes through `tools` without asking whether there are any: jinja2 refuses None, minijinja sees an empty
/// list.
const LENIENT: &str = "EricLBuehler__chat_templates__nousresearch_hermes2_pro_tool_use.jinja";

/// What jinja2 makes of the templates of many models.
#[test]
fn strangers_templates_render_as_in_jinja2() {
    use Role::{Assistant, System, User};
    let Some(folder) = shared("data/chat-templates") else { return };
    let plain =
        messages(&[(User, "Hallo, hoe gaat het?"), (Assistant, "Goed, dank je."), (User, "Vertel een mop.")]);
    let system = messages(&[(System, "Je bent een hulp."), (User, "Hoi"), (Assistant, "Dag <b>&\"'</b>")]);
    let expected = std::fs::read_to_string(folder.join("EXPECTED.jsonl")).expect("the references");
    let mut wrong = Vec::new();
    for line in expected.lines() {
        let case: Value = serde_json::from_str(line).expect("JSON");
        let name = case["template"].as_str().expect("a name");
        let text = std::fs::read_to_string(folder.join(name)).expect("the template");
        let text = if name.ends_with(".json") {
            let file: Value = serde_json::from_str(&text).expect("JSON");
            file["chat_template"].as_str().expect("a template").to_owned()
        } else {
            text
        };
        for (chat_name, chat) in [("plain3", &plain), ("system_first", &system)] {
            for (open, suffix) in [(false, "False"), (true, "True")] {
                let key = format!("{chat_name}/gen={suffix}");
                let template = ChatTemplate::new(&text).map(|mut template| {
                    template.environment.add_function("strftime_now", |_: String| "2024-01-01");
                    template
                });
                let found =
                    template.and_then(|template| template.text(chat, open, &Specials::named("<s>", "</s>")));
                match (&case["renders"][&key], found) {
                    (Value::String(text), Ok(found)) if *text == found => {}
                    (Value::Object(_), Err(_)) => {}
                    (Value::Object(_), Ok(_)) if name == LENIENT => {}
                    (expected, found) => {
                        wrong.push(format!("{name} {key}\n expected {expected}\n found {found:?}"))
                    }
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
}
