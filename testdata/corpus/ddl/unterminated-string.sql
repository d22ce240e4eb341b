create table t (a text default 'x);
