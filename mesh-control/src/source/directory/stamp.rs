//! What tells without reading it that a file is as it was.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::time::{Duration, SystemTime};

/// File systems count time in steps, of 2 s at the coarsest. Two changes within one step leave the same stamp, so a file
/// that was changed less than this before it was read is read again.
const STEP: Duration = Duration::from_secs(2);

/// Equal stamps mean equal contents. It goes by the time of the last change of contents or attributes, which nobody can
/// set: unlike that of the contents alone, which tools like rsync and tar set back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    changed: (i64, i64),
}

impl Stamp {
    /// The stamp of a file that is read after `now`; `None` when it was changed too shortly before.
    pub(super) fn of(metadata: &Metadata, now: SystemTime) -> Option<Self> {
        let seconds = u64::try_from(metadata.ctime()).ok()?;
        let changed = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds))?;
        // One more, for the part of a second that is left out here.
        let old = now.duration_since(changed).ok()? > STEP + Duration::from_secs(1);
        old.then(|| Stamp {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_a_stamp_only_when_it_was_left_alone_for_a_while() {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("a.yaml");
        std::fs::write(&path, "one").expect("written");
        let metadata = std::fs::metadata(&path).expect("there");
        let now = SystemTime::now();
        assert_eq!(Stamp::of(&metadata, now), None);
        let later = now + STEP * 2;
        let first = Stamp::of(&metadata, later).expect("old enough");
        // Put in its place with the same size and time of contents, as rsync and tar do.
        let other = dir.path().join("b.yaml");
        std::fs::write(&other, "two").expect("written");
        let file = std::fs::File::options().write(true).open(&other).expect("there");
        let time = metadata.modified().expect("a time");
        file.set_modified(time).expect("set");
        std::fs::rename(&other, &path).expect("renamed");
        let metadata = std::fs::metadata(&path).expect("there");
        assert_eq!(metadata.modified().expect("a time"), time);
        assert_ne!(Stamp::of(&metadata, later), Some(first));
    }
}
