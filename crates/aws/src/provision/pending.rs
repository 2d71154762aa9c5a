//! Changes that wait for the maintenance window, by name.

use aws_sdk_rds::types::{ClusterPendingModifiedValues, PendingModifiedValues as InstancePendingModifiedValues};

/// Names of the changes that wait, without their values: one of them is a password.
pub(super) fn of_instance(pending: &InstancePendingModifiedValues) -> Vec<String> {
    let logs = pending.pending_cloudwatch_logs_exports.is_some();
    named(&[
        ("DBInstanceClass", pending.db_instance_class.is_some()),
        ("AllocatedStorage", pending.allocated_storage.is_some()),
        ("MasterUserPassword", pending.master_user_password.is_some()),
        ("Port", pending.port.is_some()),
        ("BackupRetentionPeriod", pending.backup_retention_period.is_some()),
        ("MultiAZ", pending.multi_az.is_some()),
        ("EngineVersion", pending.engine_version.is_some()),
        ("LicenseModel", pending.license_model.is_some()),
        ("Iops", pending.iops.is_some()),
        ("StorageThroughput", pending.storage_throughput.is_some()),
        ("DBInstanceIdentifier", pending.db_instance_identifier.is_some()),
        ("StorageType", pending.storage_type.is_some()),
        ("CACertificateIdentifier", pending.ca_certificate_identifier.is_some()),
        ("DBSubnetGroupName", pending.db_subnet_group_name.is_some()),
        ("PendingCloudwatchLogsExports", logs),
        ("ProcessorFeatures", pending.processor_features.as_ref().is_some_and(|features| !features.is_empty())),
        ("IAMDatabaseAuthenticationEnabled", pending.iam_database_authentication_enabled.is_some()),
        ("DedicatedLogVolume", pending.dedicated_log_volume.is_some()),
        ("MultiTenant", pending.multi_tenant.is_some()),
        ("Engine", pending.engine.is_some()),
    ])
}

pub(super) fn of_cluster(pending: &ClusterPendingModifiedValues) -> Vec<String> {
    named(&[
        ("DBClusterIdentifier", pending.db_cluster_identifier.is_some()),
        ("MasterUserPassword", pending.master_user_password.is_some()),
        ("IAMDatabaseAuthenticationEnabled", pending.iam_database_authentication_enabled.is_some()),
        ("EngineVersion", pending.engine_version.is_some()),
        ("BackupRetentionPeriod", pending.backup_retention_period.is_some()),
        ("StorageType", pending.storage_type.is_some()),
        ("AllocatedStorage", pending.allocated_storage.is_some()),
        ("Iops", pending.iops.is_some()),
        ("PendingCloudwatchLogsExports", pending.pending_cloudwatch_logs_exports.is_some()),
    ])
}

fn named(pending: &[(&str, bool)]) -> Vec<String> {
    pending.iter().filter(|(_, waits)| *waits).map(|(name, _)| (*name).to_owned()).collect()
}
