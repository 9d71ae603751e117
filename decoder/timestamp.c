/* Timestamps in PostgreSQL's ISO style; see timestamp.h. */
#include "timestamp.h"

/* Read exactly two digits at *at; -1, and *at untouched, when there are not. */
static int
read_pair(const char **at)
{
    const char *text = *at;

    if (text[0] < '0' || text[0] > '9' || text[1] < '0' || text[1] > '9')
        return -1;
    *at += 2;
    return (text[0] - '0') * 10 + (text[1] - '0');
}

/* Read `lead` and then two digits no larger than `most`. */
static bool
read_part(const char **at, char lead, int most, int *out)
{
    const char *digits = *at + 1;

    if (**at != lead)
        return false;
    *out = read_pair(&digits);
    *at = digits;
    return *out >= 0 && *out <= most;
}

/* Days from 2000-01-01 to a day of the Gregorian calendar, counting years from March. */
static int64_t
days_to(int64_t year, int64_t month, int64_t day)
{
    int64_t march_year = month > 2 ? year : year - 1;
    int64_t march_month = month > 2 ? month - 3 : month + 9;
    int64_t year_days = march_year * 365 + march_year / 4 - march_year / 100 + march_year / 400;

    return year_days + (153 * march_month + 2) / 5 + day - 1 - INT64_C(730425);
}

static bool
read_days(const char **at, int64_t *out)
{
    int century = read_pair(at);
    int year = century < 0 ? -1 : read_pair(at);
    int month;
    int day;

    if (year < 0 || !read_part(at, '-', 12, &month) || !read_part(at, '-', 31, &day))
        return false;
    *out = days_to(century * 100 + year, month, day);
    return month >= 1 && day >= 1;
}

/* Read the microseconds behind a point, or nothing. */
static bool
read_fraction(const char **at, int64_t *out)
{
    int64_t unit = 100000;

    *out = 0;
    if (**at != '.')
        return true;
    for ((*at)++; unit > 0 && **at >= '0' && **at <= '9'; (*at)++, unit /= 10)
        *out += (**at - '0') * unit;
    return unit < 100000;
}

/* Read "+05", "-05:30" or "+05:30:15" as seconds east of Greenwich. */
static bool
read_offset(const char **at, int64_t *out)
{
    int64_t sign = **at == '-' ? -1 : 1;
    int hours;
    int minutes = 0;
    int seconds = 0;

    if (!read_part(at, sign < 0 ? '-' : '+', 15, &hours))
        return false;
    if (**at == ':' && !read_part(at, ':', 59, &minutes))
        return false;
    if (**at == ':' && !read_part(at, ':', 59, &seconds))
        return false;
    *out = sign * (hours * 3600 + minutes * 60 + seconds);
    return true;
}

bool
timestamp_parse(const char *text, int64_t *out)
{
    int64_t days;
    int64_t fraction_us;
    int64_t offset;
    int hours;
    int minutes;
    int seconds;

    if (!read_days(&text, &days) || !read_part(&text, ' ', 23, &hours) ||
        !read_part(&text, ':', 59, &minutes) || !read_part(&text, ':', 59, &seconds) ||
        !read_fraction(&text, &fraction_us) || !read_offset(&text, &offset) || *text != '\0')
        return false;
    *out = (((days * 24 + hours) * 60 + minutes) * 60 + seconds - offset) * 1000000 + fraction_us;
    return true;
}
