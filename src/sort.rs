//! Sorting of short lists: a fraction of the code of the general one, which would be in the image once for each type.

/// Sorts `items` by `key`, equal ones in their order; for lists of at most a few hundred.
pub fn by_key<T, K: Ord>(items: &mut [T], key: impl Fn(&T) -> K) {
    for end in 1..items.len() {
        let mut at = end;
        while let Some(before) = at.checked_sub(1)
            && let (Some(left), Some(right)) = (items.get(before), items.get(at))
            && key(left) > key(right)
        {
            items.swap(before, at);
            at = before;
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_list_is_sorted_and_equal_items_keep_their_order() {
        let mut list = [(3, 'a'), (1, 'b'), (3, 'c'), (0, 'd'), (1, 'e'), (2, 'f')];
        super::by_key(&mut list, |item| item.0);
        assert_eq!(list, [(0, 'd'), (1, 'b'), (1, 'e'), (2, 'f'), (3, 'a'), (3, 'c')]);
        super::by_key(&mut [0u8; 0], |item| *item);
    }
}
