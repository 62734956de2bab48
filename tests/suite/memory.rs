//! The memory that is predicted is the memory that is used.

use crate::workshop::Workshop;
use std::time::Duration;

/// Returns the anonymous resident memory of a process, in bytes.
fn resident(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("RssAnon:"))?;
    line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kib| kib << 10)
}

#[test]
fn predicted_memory_is_within_ten_percent_of_what_a_stage_uses() {
    let shop = Workshop::new();
    for (from, to) in [
        ("hidden_size 32", "hidden_size 512"),
        ("intermediate_size 64", "intermediate_size 1408"),
        ("num_hidden_layers 2", "num_hidden_layers 8"),
        ("batch 4", "batch 8 micro=8"),
        ("steps 8", "steps 3"),
        ("checkpoint every=\"1 steps\" keep=2", "checkpoint every=\"2 steps\" keep=1"),
    ] {
        shop.edit(from, to);
    }
    let mut child = shop.start(&["run", "tiny.kdl", "--only", "dutch"]);
    let mut most = 0;
    while child.try_wait().unwrap().is_none() {
        most = most.max(resident(child.id()).unwrap_or(0));
        std::thread::sleep(Duration::from_millis(2));
    }
    assert!(child.wait().unwrap().success());
    let plan: serde_json::Value =
        serde_json::from_str(&shop.ok(&["plan", "tiny.kdl", "--format", "json"]).stdout).unwrap();
    let task = plan["tasks"].as_array().unwrap().iter().find(|task| task["name"] == "dutch").unwrap();
    let parts = task["figures"]["memory"].as_array().unwrap();
    let predicted: u64 = parts.iter().map(|part| part[1].as_u64().unwrap()).sum();
    assert!(predicted >= 500 << 20, "the stage is too small to measure: {predicted} bytes");
    let ratio = most as f64 / predicted as f64;
    println!("predicted {} MiB, used {} MiB", predicted >> 20, most >> 20);
    assert!((0.9..=1.1).contains(&ratio), "predicted {} MiB, used {} MiB", predicted >> 20, most >> 20);
}
