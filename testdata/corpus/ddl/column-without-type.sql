create table t (id primary key);
