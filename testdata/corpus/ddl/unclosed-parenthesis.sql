create table t (a int, b numeric(10,2;
create table u (a int);
