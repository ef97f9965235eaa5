//! The benches: each runs one workload and its floor, what the same machine can do at best without us, in the same run.
//! Milliseconds of different runs do not compare; ratios and bytes do.

use std::fmt::Write as _;

use anyhow::Result;
use serde_json::{Map, Value, json};

pub mod actors;
pub mod arrive;
pub mod clock;
pub mod durable_writes;
pub mod edit_latency;
pub mod floor;
pub mod follow;
pub mod import;
pub mod memory;
pub mod pair;
pub mod reads;
pub mod reconnect;
pub mod stall;
pub mod trace;

/// How large a run is.
#[derive(Debug, Clone, Copy, Default)]
pub struct Size {
    /// Documents, where the workload has many; else it says how many it takes.
    pub documents: Option<usize>,
    /// A short run, to see that it works: its figures mean nothing.
    pub quick: bool,
}

/// Named figures, in the order in which they are shown.
pub type Figures = Map<String, Value>;

/// What a bench found.
#[derive(Debug)]
pub struct Report {
    /// Its name on the command line.
    pub workload: &'static str,
    /// Documents that took part.
    pub documents: usize,
    /// Our figures.
    pub ours: Figures,
    /// The same figures of the floor, as far as it has them.
    pub floor: Figures,
}

impl Report {
    /// Ours divided by the floor, where there is one.
    pub fn ratio(&self) -> Figures {
        let mut ratio = Figures::new();
        for (name, ours) in &self.ours {
            if let (Some(ours), Some(floor)) = (ours.as_f64(), self.floor.get(name).and_then(Value::as_f64))
                && floor > 0.0
            {
                ratio.insert(name.clone(), rounded(ours / floor, 2));
            }
        }
        ratio
    }

    /// One object: `{"workload", "docs", "ours", "floor", "ratio"}`.
    pub fn to_json(&self) -> Value {
        json!({
            "workload": self.workload,
            "docs": self.documents,
            "ours": self.ours,
            "floor": self.floor,
            "ratio": self.ratio(),
        })
    }

    /// A table for people.
    pub fn to_text(&self) -> String {
        let ratio = self.ratio();
        let mut text = format!("{}, documents: {}\n", self.workload, self.documents);
        let shown = |figures: &Figures, name: &str| figures.get(name).map_or_else(|| "-".to_owned(), Value::to_string);
        let _ = writeln!(text, "{:<20}{:>14}{:>14}{:>10}", "", "ours", "floor", "ratio");
        for name in self.ours.keys() {
            let (ours, floor, ratio) = (shown(&self.ours, name), shown(&self.floor, name), shown(&ratio, name));
            let _ = writeln!(text, "{name:<20}{ours:>14}{floor:>14}{ratio:>10}");
        }
        text
    }
}

/// A figure with so many decimals.
pub fn rounded(value: f64, decimals: i32) -> Value {
    let scale = 10f64.powi(decimals);
    json!((value * scale).round() / scale)
}

/// A small document: a map of five fields, made by three changes.
///
/// # Errors
/// The document does not take them.
pub fn make_small(document: &anabranch::Document, number: usize) -> Result<()> {
    document.edit(|edit| {
        edit.set("/id", format!("doc-{number:06}"))?;
        edit.set("/title", format!("Document number {number}"))?;
        edit.set("/owner", format!("user-{:02}", number % 97))
    })?;
    document.edit(|edit| {
        edit.set("/count", 0)?;
        edit.set("/done", number.is_multiple_of(2))
    })?;
    document.edit(|edit| edit.set("/title", format!("Document number {number}, revised")))?;
    Ok(())
}

/// Makes so many small documents in a space, and waits until they are on disk.
///
/// # Errors
/// The space does not take them.
pub async fn fill(space: anabranch::Space, documents: usize) -> Result<()> {
    for number in 0..documents {
        let document = space.create_document().await?;
        make_small(&document, number)?;
        if number % 256 == 255 || number + 1 == documents {
            document.saved().await?;
        }
    }
    Ok(())
}

/// The value at a quantile of sorted or unsorted samples (nearest rank).
pub fn quantile(samples: &mut [std::time::Duration], quantile: f64) -> std::time::Duration {
    samples.sort_unstable();
    let rank = (samples.len() as f64 * quantile).ceil() as usize;
    samples.get(rank.clamp(1, samples.len().max(1)) - 1).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratio_is_given_where_the_floor_has_the_figure() {
        let figures =
            |pairs: &[(&str, f64)]| pairs.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect();
        let report = Report {
            workload: "w",
            documents: 1,
            ours: figures(&[("a", 3.0), ("b", 1.0), ("c", 1.0)]),
            floor: figures(&[("a", 2.0), ("c", 0.0)]),
        };
        assert_eq!(Value::Object(report.ratio()), json!({"a": 1.5}));
    }

    #[test]
    fn quantiles_are_nearest_ranks() {
        let mut samples: Vec<_> = (1..=100).rev().map(std::time::Duration::from_millis).collect();
        assert_eq!(quantile(&mut samples, 0.5).as_millis(), 50);
        assert_eq!(quantile(&mut samples, 0.99).as_millis(), 99);
        assert_eq!(quantile(&mut [], 0.5).as_millis(), 0);
    }
}
