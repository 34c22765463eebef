//! Everything as whole programs on real servers. One program for all, so that each server is started once and all
//! cores have work to the end.

mod archive_copy;
mod backup_config;
mod backup_faults;
mod backup_faults_s3;
mod backup_mirror;
mod backup_plain;
mod backup_restore;
mod backup_run;
mod backup_speech;
mod bucket;
mod connection;
mod dumpfmt_formats;
mod dumpfmt_plain;
mod dumpfmt_repair;
mod dumpfmt_sql;
mod dumpfmt_transcode;
mod dumpfmt_write;
mod harness;
mod new_database;
mod pgmig_atomic;
mod pgmig_convert;
mod pgmig_guards;
mod pgmig_people;
mod pgmig_remap;
mod pgmig_repair;
mod pgmig_restore;
mod resource_controller;
mod restore_engine;
mod storage_bucket_archive;
mod storage_mirror;
mod storage_mirror_versions;
mod storage_s3;
