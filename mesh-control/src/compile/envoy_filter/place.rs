//! Additions to lists, and removals.

use mesh_api::istio::PatchOperation;

/// Adds to a list, removes from it, or replaces one in it. `named` says that the patch names one of the list, which `is` knows;
/// without a name an insertion goes to the end that is nearest, as in Istio.
pub(super) fn place<T>(
    list: &mut Vec<T>,
    operation: PatchOperation,
    value: impl FnOnce() -> Option<T>,
    named: bool,
    is: impl Fn(&T) -> bool,
) {
    let found = || named.then(|| list.iter().position(&is)).flatten();
    let at = match operation {
        PatchOperation::Add => Some(list.len()),
        PatchOperation::InsertFirst => Some(0),
        PatchOperation::InsertBefore if !named => Some(0),
        PatchOperation::InsertAfter if !named => Some(list.len()),
        PatchOperation::InsertBefore => found(),
        PatchOperation::InsertAfter => found().map(|at| at + 1),
        PatchOperation::Replace => {
            if let (Some(slot), Some(value)) = (found().and_then(|at| list.get_mut(at)), value()) {
                *slot = value;
            }
            return;
        }
        PatchOperation::Remove if named => {
            list.retain(|one| !is(one));
            return;
        }
        _ => None,
    };
    if let (Some(at), Some(value)) = (at, value()) {
        list.insert(at, value);
    }
}
