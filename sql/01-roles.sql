-- The role of the watcher: it may log in, replicate, and read the named tables. Nothing else.
--
--   psql -d shop -v tables='orders, shipments, sales.payments' -f sql/01-roles.sql
--   psql -d shop -c '\password firstbad_watch'
--
-- Run by a superuser, or by a role that may create roles with REPLICATION; on Amazon RDS by the master user, where the role is
-- granted rds_replication instead. The password is no part of this file: set it afterwards, as above, or let the role log in by
-- certificate or peer.
--
-- Variables:
--   tables   the tables that the rules read, as SQL writes them, with commas between (needed)
--   role     the role's name; default firstbad_watch
--
-- Run again with other tables, it grants those and takes back what it granted on others: SELECT is what is named, no more.

\set ON_ERROR_STOP on
\if :{?role}
\else
  \set role firstbad_watch
\endif
\if :{?tables}
\else
  do $$ begin raise exception 'name the tables: psql -v tables=''orders, sales.payments'' -f sql/01-roles.sql'; end $$;
\endif

begin;
set local client_min_messages = warning;
select set_config('firstbad.role', :'role', true) as firstbad_role,
       set_config('firstbad.tables', :'tables', true) as firstbad_tables \gset

do $$
declare
  watcher constant text := current_setting('firstbad.role');
  wanted regclass[];
  one regclass;
begin
  select array_agg(distinct btrim(part)::regclass) into wanted
    from unnest(string_to_array(current_setting('firstbad.tables'), ',')) part
   where btrim(part) <> '';
  if wanted is null then
    raise exception 'no table is named';
  end if;

  if not exists (select from pg_roles where rolname = watcher) then
    execute format('create role %I login', watcher);
  end if;
  if not (select rolcanlogin from pg_roles where rolname = watcher) then
    execute format('alter role %I login', watcher);
  end if;

  if exists (select from pg_roles where rolname = 'rds_replication') then
    execute format('grant rds_replication to %I', watcher);
  elsif not (select rolreplication from pg_roles where rolname = watcher) then
    execute format('alter role %I replication', watcher);
  end if;

  execute format('grant connect on database %I to %I', current_database(), watcher);

  -- What was granted on tables that are not named any more.
  for one in
    select c.oid::regclass
      from pg_class c, aclexplode(c.relacl) held
     where held.grantee = (select oid from pg_roles where rolname = watcher)
       and c.relkind in ('r', 'p') and c.oid <> all (wanted)
  loop
    execute format('revoke all on %s from %I', one, watcher);
  end loop;

  foreach one in array wanted loop
    execute format('grant usage on schema %I to %I',
      (select n.nspname from pg_class c join pg_namespace n on n.oid = c.relnamespace where c.oid = one), watcher);
    execute format('grant select on %s to %I', one, watcher);
  end loop;
end
$$;
commit;
