//! Imports files and prints what came of them: `cargo run -p import --example import FILE…`.

fn main() {
    for path in std::env::args().skip(1) {
        let text = std::fs::read_to_string(&path).expect("the file is readable text");
        println!("==== {path}");
        match import::import(&text, &path) {
            Ok(imported) => {
                println!("{}", imported.recipe);
                println!("{}", import::render(&imported.report));
            }
            Err(problems) => {
                for problem in problems {
                    println!(
                        "{path}:{}:{}: {} ({})",
                        problem.line, problem.column, problem.message, problem.help
                    );
                }
            }
        }
    }
}
