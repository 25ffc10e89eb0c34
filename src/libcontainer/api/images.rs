//! Images of a checkpoint, looked at: what they contain, what is wrong with them, and the steps of a restore.

use std::fmt;

use super::bundle::Bundle;
use crate::config::Warning;
use crate::error::Result;
use crate::launch::image_check::{self, ImageContents, ImageFault};
use crate::launch::images::Images;
use crate::plan::CgroupUse;
use crate::plan::explain::{Line, table};

/// The steps of a restore. The text is the same as that of `coracle explain --image-path`.
///
/// ```no_run
/// use libcontainer::{Bundle, CgroupUse, Images};
///
/// let plan = Bundle::read("/bundles/box")?.explain_restore(&Images::new("/images/box"), CgroupUse::Own)?;
/// plan.warnings().iter().for_each(|warning| eprintln!("{warning}"));
/// print!("{plan}");
/// # Ok::<(), libcontainer::Error>(())
/// ```
#[derive(Debug)]
pub struct RestoreExplanation {
    lines: Vec<Line>,
    warnings: Vec<Warning>,
}

impl RestoreExplanation {
    /// The steps.
    pub fn lines(&self) -> &[Line] {
        &self.lines
    }

    /// Warnings: what is left out, and what is probably a mistake.
    pub fn warnings(&self) -> &[Warning] {
        &self.warnings
    }
}

impl fmt::Display for RestoreExplanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&table(&self.lines))
    }
}

impl Images {
    /// The contents of these images, and the faults because of which a restore would fail. With a bundle, this includes the mounts
    /// that the bundle does not have.
    ///
    /// ```no_run
    /// # fn main() -> libcontainer::Result<()> {
    /// let (contents, faults) = libcontainer::Images::new("/images/box").check(None)?;
    /// println!("{} processes", contents.processes);
    /// faults.iter().for_each(|fault| println!("{}: {}", fault.file, fault.problem));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// The directory cannot be read, or the bundle has mistakes.
    pub fn check(&self, bundle: Option<&Bundle>) -> Result<(ImageContents, Vec<ImageFault>)> {
        let images = self.clone().absolute()?;
        Ok(match bundle {
            Some(bundle) => {
                let plan = bundle.plan_to_read(&bundle.flags("checked"))?;
                let (contents, mut faults) =
                    image_check::check_with_plan(&images, &plan, &bundle.annotations(), bundle.root().as_deref())?;
                faults.extend(plan.not_restorable().map(|fault| ImageFault::new(fault.at.as_str(), fault.problem)));
                (contents, faults)
            }
            None => image_check::check(&images)?,
        })
    }
}

impl Bundle {
    /// The steps of a restore of these images with it.
    ///
    /// # Errors
    /// The mistakes of the bundle, or those of the images.
    pub fn explain_restore(&self, images: &Images, cgroup: CgroupUse) -> Result<RestoreExplanation> {
        let mut plan = self.explained(cgroup)?;
        let images = images.clone().absolute()?;
        let (contents, faults) =
            image_check::with_plan_without_memory(&images, &plan, &self.annotations(), self.root().as_deref())?;
        image_check::must_be_none(&images, &faults)?;
        let lines = plan.restore_lines(&image_check::dumped(&images, &contents)?);
        Ok(RestoreExplanation { lines, warnings: std::mem::take(&mut plan.warnings) })
    }
}
