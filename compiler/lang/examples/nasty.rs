use lang::facts::Facts;
use lang::{Input, check};
fn main() {
    for path in std::env::args().skip(1) {
        let text = std::fs::read_to_string(&path).unwrap();
        let sets: Vec<String> =
            text.lines().filter_map(|l| l.trim().strip_prefix("// set: ")).map(str::to_owned).collect();
        let facts = std::fs::read_to_string(path.replace(".kdl", ".texts.json"))
            .ok()
            .map(|t| serde_json::from_str(&t).unwrap())
            .unwrap_or_default();
        let facts = Facts { texts: facts, ..Facts::default() };
        let checked = check(&Input { path: "a.kdl", text: &text, sets: &sets }, &facts);
        println!("=================== {path}");
        if checked.diagnostics.is_empty() {
            println!("   NOTHING FOUND");
        }
        for d in &checked.diagnostics {
            let at = d.primary();
            let s = &checked.sources[at.source.0 as usize];
            let line = s.text[..at.start as usize].matches('\n').count() + 1;
            println!(
                "{}:{line} [{}] {:?} {} «{}» — {}",
                s.path,
                d.code,
                d.severity,
                d.message,
                &s.text[at.start as usize..at.end as usize],
                d.help.clone().unwrap_or_default()
            );
            for l in d.labels.iter().filter(|l| !l.primary) {
                let s = &checked.sources[l.span.source.0 as usize];
                println!("      + «{}» {}", &s.text[l.span.start as usize..l.span.end as usize], l.message);
            }
            for f in &d.fixes {
                println!(
                    "      fix {}: {:?}",
                    f.title,
                    f.edits.iter().map(|e| e.text.clone()).collect::<Vec<_>>()
                );
            }
        }
    }
}
