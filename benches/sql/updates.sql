-- What a person who knows PostgreSQL runs after `pg_restore` to give every tenant its new ID. A temporary table `mapping`
-- (source, target: uuid) has been filled before.
--
-- Every ID column has one UPDATE, joined with the mapping. Foreign keys would refuse each of them, so none is enforced
-- meanwhile: `replica` is the cheapest way, since it neither drops the keys nor checks them again.
-- The rows of the deleted and the internal tenant go, as pgmig leaves them out.
begin;
set local session_replication_role = replica;

delete from audit_event where tenant_id not in (select source from mapping);
delete from intent_count where tenant_id not in (select source from mapping);
delete from log where tenant_id not in (select source from mapping);
delete from webhook where instance_id not in (select source::text from mapping);
delete from environment where tenant_id not in (select source from mapping);
delete from assistant where tenant_id not in (select source from mapping);
delete from skill_snapshot where tenant_id not in (select source from mapping);
delete from skill where tenant_id not in (select source from mapping);
delete from workspace where tenant_id not in (select source from mapping);
delete from app_user where tenant_id not in (select source from mapping);
delete from tenant where tenant_id not in (select source from mapping);

update tenant set tenant_id = target from mapping where tenant_id = source;
update tenant set instance_id = target from mapping where instance_id = source;
update app_user set tenant_id = target from mapping where tenant_id = source;
update workspace set tenant_id = target from mapping where tenant_id = source;
update skill set tenant_id = target from mapping where tenant_id = source;
update skill_snapshot set tenant_id = target from mapping where tenant_id = source;
update assistant set tenant_id = target from mapping where tenant_id = source;
update environment set tenant_id = target from mapping where tenant_id = source;
update webhook set instance_id = target::text from mapping where instance_id = source::text;
update log set tenant_id = target from mapping where tenant_id = source;
update intent_count set tenant_id = target from mapping where tenant_id = source;
update audit_event set tenant_id = target from mapping where tenant_id = source;
commit;
