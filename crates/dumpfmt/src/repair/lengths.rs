//! Which blocks are not as long as the positions in the table of contents say.
//!
//! What is left of a block from which bytes were lost can often still be decoded. But all blocks behind it are then nearer to
//! the begin than they were. A single position that differs is itself what is damaged.

/// What is wrong with such a block.
pub(super) const OTHER_LENGTH: &str =
    "its block is not as long as the positions in the table of contents say: bytes are missing, or too many";

/// A block that was found.
#[derive(Debug, Clone, Copy)]
pub(super) struct Placed {
    pub(super) begin: u64,
    pub(super) end: u64,
    /// Where the table of contents says that it begins.
    pub(super) recorded: Option<u64>,
}

impl Placed {
    /// How far it is from there.
    fn shift(&self) -> Option<i128> {
        self.recorded.map(|recorded| i128::from(self.begin) - i128::from(recorded))
    }
}

/// The places of such blocks among these, which are in the order of the file.
pub(super) fn of_other_length(blocks: &[Placed]) -> Vec<usize> {
    let shift = |place: Option<usize>| place.and_then(|place| blocks.get(place)).and_then(Placed::shift);
    let is_other = |place: &usize| {
        let (this, next) = (shift(Some(*place)), shift(Some(place + 1)));
        let (Some(this), Some(next)) = (this, next) else { return false };
        let next_alone = shift(Some(place + 2)) == Some(this);
        let this_alone = place.checked_sub(1).map_or(Some(0), |before| shift(Some(before))) == Some(next);
        this != next && !next_alone && !this_alone && blocks[*place].end == blocks[place + 1].begin
    };
    (0..blocks.len()).filter(is_other).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Blocks of 10 bytes, for which these positions are recorded.
    fn others(recorded: &[u64]) -> Vec<usize> {
        let place = |(place, &recorded): (usize, &u64)| {
            let begin = 100 + 10 * place as u64;
            Placed { begin, end: begin + 10, recorded: Some(recorded).filter(|&recorded| recorded > 0) }
        };
        of_other_length(&recorded.iter().enumerate().map(place).collect::<Vec<_>>())
    }

    #[test]
    fn a_block_that_lost_bytes_is_found_and_a_wrong_position_is_not_one() {
        assert_eq!(others(&[100, 110, 120, 130]), []);
        assert_eq!(others(&[500, 510, 520, 530]), [], "all are elsewhere");
        assert_eq!(others(&[100, 117, 127, 137]), [0]);
        assert_eq!(others(&[100, 110, 125, 135]), [1]);
        assert_eq!(others(&[100, 110, 125, 132]), [1, 2]);
        assert_eq!(others(&[100, 110, 120, 139]), [2], "it may be that position as well");
        for wrong in [[7, 110, 120, 130], [100, 7, 120, 130], [100, 110, 7, 130]] {
            assert_eq!(others(&wrong), [], "{wrong:?}");
        }
        assert_eq!(others(&[0, 0, 120, 0]), [], "nothing is recorded");
    }
}
