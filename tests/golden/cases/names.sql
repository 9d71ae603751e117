-- Names that need quotes, escapes or more than ASCII; a bytea under the name of a domain.
-- tables: Größe."quoted".Tábla, public.order
create schema "Größe.""quoted""";
create domain blob as bytea;
create table "Größe.""quoted"""."Tábla" (
    "primary" int primary key, "a ""b"" \c" text, "Ünïcode 列" text, " " blob, "col,umn" bytea);
create table public."order" ("from" int primary key);
-- stream
insert into "Größe.""quoted"""."Tábla" values (1, 'x', '列', '\x01', '\x02');
update "Größe.""quoted"""."Tábla" set "primary" = 2;
delete from "Größe.""quoted"""."Tábla";
insert into public."order" values (1);
