//! Rows of a store as batch values: what a micro-step, an evaluation and a reference pass see.

use crate::error::{EngineError, Result};
use crate::executor::Executor;
use data::{MicroBatch, Sequence, SequenceRow, Store};
use plan::work::{Unit, batch, extent};

/// Sets the extents of a micro batch and writes its values.
pub fn write(executor: &mut Executor, micro: &MicroBatch) -> Result<()> {
    executor.set_extent(extent::TOKENS, micro.tokens() as u64)?;
    executor.set_extent(extent::ROWS, micro.rows() as u64)?;
    executor.set_extent(extent::BOUNDS, micro.rows() as u64 + 1)?;
    executor.set_extent(extent::TRAINED, micro.trained() as u64)?;
    executor.write_i32(batch::IDS, &micro.ids)?;
    executor.write_i32(batch::POSITIONS, &micro.positions)?;
    executor.write_i32(batch::CU_SEQLENS, &micro.cu_seqlens)?;
    executor.write_i32(batch::ROW_NUMBERS, &micro.row_numbers)?;
    if executor.has(batch::PREFIXES) {
        executor.write_i32(batch::PREFIXES, &micro.prefixes)?;
    }
    executor.write_i32(batch::TRAINED_INDEX, &micro.trained_index)?;
    executor.write_i32(batch::TRAINED_LABELS, &micro.trained_labels)?;
    executor.write_i32(batch::TRAINED_ROW, &micro.trained_row)
}

/// Returns whether rows of a program go on from what they share with the row before.
pub fn shares(executor: &Executor, program: &str) -> bool {
    executor.reads(program, batch::PREFIXES)
}

/// Returns what the loss of a micro batch is a mean over: trained tokens or pairs.
pub fn count(micro: &MicroBatch, unit: Unit) -> u64 {
    match unit {
        Unit::Tokens => micro.trained() as u64,
        Unit::Pairs => micro.rows() as u64 / 2,
    }
}

/// Rows of one dataset that fit the capacities of a module together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Index of the dataset in the store's parts.
    pub part: u32,
    pub sequences: Vec<Sequence>,
}

/// Groups all rows of a store, in order; a pair stays together, datasets do not mix. With `share` a pair needs room
/// for what both of its rows begin with only once.
///
/// # Errors
/// Fails when a row alone exceeds the capacities.
pub fn groups(executor: &Executor, store: &Store, unit: Unit, share: bool) -> Result<Vec<Group>> {
    let unlimited = |extent| executor.capacity(extent).unwrap_or(u64::MAX);
    let limits = [unlimited(extent::TOKENS), unlimited(extent::ROWS), unlimited(extent::TRAINED)];
    let size = match unit {
        Unit::Tokens => 1,
        Unit::Pairs => 2,
    };
    let mut groups: Vec<Group> = Vec::new();
    let mut sums = [0; 3];
    for (index, records) in store.records().chunks(size).enumerate() {
        let part = records[0].part;
        let adds = [
            records.iter().map(|record| if share { record.own() } else { record.length.into() }).sum(),
            records.len() as u64,
            records.iter().map(|record| u64::from(record.trained)).sum(),
        ];
        let fits = |sums: [u64; 3]| (0..3).all(|i| sums[i] + adds[i] <= limits[i]);
        if !fits([0; 3]) {
            let message =
                format!("row {} of {} tokens does not fit the planned memory", index * size, adds[0]);
            return Err(EngineError::plan(message));
        }
        let row = |at: usize| SequenceRow { row: index * size + at, number: (index * size + at) as u64 };
        let sequence = Sequence { rows: (0..records.len()).map(row).collect() };
        match groups.last_mut().filter(|group| group.part == part && fits(sums)) {
            Some(group) => group.sequences.push(sequence),
            None => {
                groups.push(Group { part, sequences: vec![sequence] });
                sums = [0; 3];
            }
        }
        sums = [0, 1, 2].map(|i| sums[i] + adds[i]);
    }
    Ok(groups)
}

/// Names the rows of micro batches by dataset, for errors: "rows 3, 17 and 21 of `talks`".
pub fn name_rows<'m>(store: &Store, micros: impl IntoIterator<Item = &'m MicroBatch>) -> String {
    const MOST: usize = 16;
    let mut by_part: std::collections::BTreeMap<u32, Vec<u64>> = Default::default();
    for row in micros.into_iter().flat_map(|micro| &micro.row_ids) {
        by_part.entry(store.row(*row as usize).part).or_default().push(*row);
    }
    let part = |(part, rows): (u32, Vec<u64>)| {
        let shown: Vec<String> = rows.iter().take(MOST).map(u64::to_string).collect();
        let more = rows.len().saturating_sub(MOST);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let name = store.parts().get(part as usize).map_or("?", String::as_str);
        format!("rows {}{more} of `{name}`", shown.join(", "))
    };
    by_part.into_iter().map(part).collect::<Vec<_>>().join("; ")
}
