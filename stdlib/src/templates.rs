//! The `std:` templates. What stands between `{% generation %}` and `{% endgeneration %}` is trained.

/// `<|im_start|>role … <|im_end|>`.
pub const CHATML: &str = include_str!("../templates/chatml.jinja");
/// `<|role|>`, a line break, the message and the end-of-text token.
pub const ZEPHYR: &str = include_str!("../templates/zephyr.jinja");
/// `### Instruction:` and `### Response:`.
pub const ALPACA: &str = include_str!("../templates/alpaca.jinja");

/// Returns the text of the template `std:NAME`.
pub fn find(name: &str) -> Option<&'static str> {
    match name {
        "chatml" => Some(CHATML),
        "zephyr" => Some(ZEPHYR),
        "alpaca" => Some(ALPACA),
        _ => None,
    }
}
