//! Entries by their dump IDs.

use super::TocEntry;

/// The places of entries by dump ID.
///
/// pg_dump counts its objects, and most of them are in the dump: a table over the range of the IDs
/// takes little more than one over the entries, and needs no sorting. An archive in which they are
/// far from each other, which is allowed, is searched instead.
#[derive(Debug, Clone)]
pub(super) enum DumpIds {
    /// For each dump ID from `first` on, the place of its entry, or [`NO_PLACE`].
    Table { first: i32, places: Vec<u32> },
    /// Places in the order of dump IDs.
    Sorted(Vec<u32>),
}

const NO_PLACE: u32 = u32::MAX;
/// Of the table, for each entry.
const MOST_PLACES: u64 = 4;

impl DumpIds {
    /// The index of `entries`, of which there are less than 2^32; as an error, the place of one with the dump ID of
    /// another one.
    pub(super) fn of(entries: &[TocEntry]) -> Result<Self, usize> {
        let ids = || entries.iter().map(|entry| entry.dump_id);
        let (first, last) = ids().fold((i32::MAX, i32::MIN), |(first, last), id| (first.min(id), last.max(id)));
        let range = u64::from(first.abs_diff(last)) + 1;
        if range > MOST_PLACES * entries.len() as u64 {
            return Self::sorted(entries);
        }
        let mut places = vec![NO_PLACE; range as usize];
        for (place, id) in ids().enumerate() {
            let slot = &mut places[first.abs_diff(id) as usize];
            if *slot != NO_PLACE {
                return Err(place);
            }
            *slot = place as u32;
        }
        Ok(Self::Table { first, places })
    }

    fn sorted(entries: &[TocEntry]) -> Result<Self, usize> {
        let id = |place: u32| entries[place as usize].dump_id;
        let mut places: Vec<u32> = (0..entries.len() as u32).collect();
        places.sort_unstable_by_key(|&place| id(place));
        match places.windows(2).find(|pair| id(pair[0]) == id(pair[1])) {
            Some(pair) => Err(pair[1] as usize),
            None => Ok(Self::Sorted(places)),
        }
    }

    /// Where in the `entries` that the index is of the entry with this dump ID is.
    pub(super) fn place(&self, entries: &[TocEntry], dump_id: i32) -> Option<usize> {
        match self {
            Self::Table { first, places } => {
                let slot = usize::try_from(i64::from(dump_id) - i64::from(*first)).ok()?;
                places.get(slot).filter(|&&place| place != NO_PLACE).map(|&place| place as usize)
            }
            Self::Sorted(places) => {
                let found = places.binary_search_by_key(&dump_id, |&place| entries[place as usize].dump_id);
                found.ok().map(|index| places[index] as usize)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(ids: &[i32]) -> Vec<TocEntry> {
        ids.iter().map(|&id| TocEntry::builder(id, "TABLE", "t").build().unwrap()).collect()
    }

    #[test]
    fn entries_are_found_by_near_and_by_distant_dump_ids() {
        for ids in [&[][..], &[7], &[9, 7, 8], &[4, 1, 6], &[5, i32::MAX, 1], &[i32::MAX, i32::MAX - 2]] {
            let entries = entries(ids);
            let index = DumpIds::of(&entries).unwrap();
            for (place, &id) in ids.iter().enumerate() {
                assert_eq!(index.place(&entries, id), Some(place), "{id} of {ids:?}");
            }
            for id in [i32::MIN, -1, 0, 2, 3, 10, i32::MAX - 1] {
                assert_eq!(index.place(&entries, id), None, "{id} of {ids:?}");
            }
        }
    }

    #[test]
    fn a_dump_id_that_occurs_twice_is_seen() {
        for ids in [&[3, 4, 3][..], &[1, i32::MAX, 1], &[i32::MAX, 5, i32::MAX]] {
            let place = DumpIds::of(&entries(ids)).unwrap_err();
            assert!(place == 0 || place == 2, "{place} of {ids:?}");
        }
    }
}
