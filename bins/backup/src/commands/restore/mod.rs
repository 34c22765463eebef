//! `backup restore`: into the database of a product, as `pgmig` does; or into databases and buckets that are made anew.

mod anew;
pub(crate) mod database;
mod pieces;
mod store;

use super::Context;
use crate::cli::RestoreCommand;
use crate::failure::Failure;

pub(crate) async fn run(context: &Context, mut typed: RestoreCommand) -> Result<(), Failure> {
    match (typed.target.take(), typed.into.take()) {
        (Some(target), _) => store::run(context, typed, target).await,
        (None, Some(source)) => anew::run(context, typed, &source).await,
        (None, None) => unreachable!("one of the two is required"),
    }
}
