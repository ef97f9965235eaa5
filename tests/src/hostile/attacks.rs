//! Every attack, by what it is made of.

pub mod addresses;
pub mod changes;
pub mod connections;
pub mod control;
pub mod frames;
pub mod guests;
pub mod membership;
pub mod messages;
pub mod writing;

use crate::hostile::attack::Attack;

/// Every attack, in the order in which they are made.
pub fn all() -> Vec<Attack> {
    let kinds = [
        connections::ALL,
        guests::ALL,
        membership::ALL,
        addresses::ALL,
        messages::ALL,
        frames::ALL,
        changes::ALL,
        writing::ALL,
        control::ALL,
    ];
    kinds.concat()
}

/// The attacks with these names, or all if there is no name.
///
/// # Errors
/// The name that no attack has.
pub fn named(names: &[String]) -> Result<Vec<Attack>, String> {
    let all = all();
    if names.is_empty() {
        return Ok(all);
    }
    let find = |name: &String| all.iter().find(|attack| attack.name == name).copied();
    names.iter().map(|name| find(name).ok_or_else(|| format!("no attack `{name}`; see `hostile --list`"))).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn there_are_thirty_attacks_and_each_has_a_name_of_its_own() {
        let all = all();
        let names: BTreeSet<&str> = all.iter().map(|attack| attack.name).collect();
        assert!(all.len() >= 30 && names.len() == all.len(), "{} attacks, {} names", all.len(), names.len());
        assert!(all.iter().all(|attack| attack.does.len() > 10 && attack.does.ends_with('.')));
        assert_eq!(named(&[]).map(|found| found.len()), Ok(all.len()));
        assert!(named(&["nothing".to_owned()]).is_err());
    }

    #[test]
    fn the_threat_model_names_every_attack() {
        let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/threat-model.md");
        let page = std::fs::read_to_string(page).expect("the threat model is in the tree");
        let rows = page.lines().filter(|line| line.starts_with("| "));
        let ticked = rows.flat_map(|line| line.split('`').skip(1).step_by(2));
        let in_page: BTreeSet<&str> = ticked.filter_map(|item| item.strip_prefix("hostile ")).collect();
        let in_tree: BTreeSet<&str> = all().iter().map(|attack| attack.name).collect();
        assert_eq!(in_page, in_tree);
    }
}
