//! The `std:` templates. What stands between `{% generation %}` and `{% endgeneration %}` is trained: what follows
//! the prompt that opens an answer, up to the end of the turn.

/// `<|im_start|>role … <|im_end|>`.
pub const CHATML: &str = include_str!("../templates/chatml.jinja");
/// `<|role|>`, a line break, the message and the end-of-text token.
pub const ZEPHYR: &str = include_str!("../templates/zephyr.jinja");
/// `### Instruction:` and `### Response:`.
pub const ALPACA: &str = include_str!("../templates/alpaca.jinja");
/// `### Instrucción:` and `### Respuesta:`.
pub const ALPACA_ES: &str = include_str!("../templates/alpaca-es.jinja");
/// `[INST] … [/INST]`, the system message between `<<SYS>>` and `<</SYS>>` in the first user turn, as Llama 2 Chat has it.
pub const LLAMA2: &str = include_str!("../templates/llama2.jinja");
/// A role between `<|start_header_id|>` and `<|end_header_id|>`, as Llama 3 Instruct has it.
pub const LLAMA3: &str = include_str!("../templates/llama3.jinja");
/// `[INST] … [/INST]`, the system message before the first user message, as Mistral 7B Instruct to v0.2 and Mixtral have it.
pub const MISTRAL: &str = include_str!("../templates/mistral.jinja");
/// `<start_of_turn>role … <end_of_turn>`, the system message before the first user message, as Gemma 3 has it.
pub const GEMMA: &str = include_str!("../templates/gemma.jinja");
/// `<|role|> … <|end|>`, as Phi-3 and Phi-3.5 have it.
pub const PHI3: &str = include_str!("../templates/phi3.jinja");
/// ChatML with Qwen's own system message where there is none, as Qwen2.5 Instruct has it.
pub const QWEN25: &str = include_str!("../templates/qwen25.jinja");

/// Returns the text of the template `std:NAME`.
pub fn find(name: &str) -> Option<&'static str> {
    match name {
        "chatml" => Some(CHATML),
        "zephyr" => Some(ZEPHYR),
        "alpaca" => Some(ALPACA),
        "alpaca-es" => Some(ALPACA_ES),
        "llama2" => Some(LLAMA2),
        "llama3" => Some(LLAMA3),
        "mistral" => Some(MISTRAL),
        "gemma" => Some(GEMMA),
        "phi3" => Some(PHI3),
        "qwen25" => Some(QWEN25),
        _ => None,
    }
}
