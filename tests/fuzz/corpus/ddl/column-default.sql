ALTER TABLE s.t ADD COLUMN IF NOT EXISTS "C c" text COLLATE "C" DEFAULT 'a,' || $x$ $$ , $x$ -- why, not
 NOT NULL CHECK (s.t.a > 0), DROP d CASCADE