create type mood as enum ('glad', 'sad');
create table t (
    id bigint primary key,
    a text,
    n integer,
    amount numeric(12,2),
    anything numeric,
    whole numeric(10,0),
    flag boolean,
    x double precision,
    raw bytea,
    day date,
    clock time,
    at timestamp,
    seen timestamptz,
    tags text[],
    sums numeric(12,2)[],
    doc jsonb,
    uid uuid,
    feeling mood,
    bits bit(12)
);
create table pair (x integer, y integer, v text, primary key (x, y));
create table log (v text, n integer);
create table sales.orders (id bigint primary key, total numeric(12,2));
