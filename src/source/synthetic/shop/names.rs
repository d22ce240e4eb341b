//! Words that people and products are made of. Not all of them are ASCII, and some need quoting: names are like that.

/// Given names: as written, and as in an e-mail address.
pub(super) const GIVEN: [(&str, &str); 28] = [
    ("Žofia", "zofia"),
    ("Jürgen", "juergen"),
    ("Łukasz", "lukasz"),
    ("Zoë", "zoe"),
    ("Anna", "anna"),
    ("Søren", "soren"),
    ("Åsa", "asa"),
    ("François", "francois"),
    ("Inês", "ines"),
    ("Ελένη", "eleni"),
    ("Дмитро", "dmytro"),
    ("美咲", "misaki"),
    ("Mary Jane", "mary.jane"),
    ("John", "john"),
    ("Fatima", "fatima"),
    ("Nguyễn", "nguyen"),
    ("Óscar", "oscar"),
    ("Tomáš", "tomas"),
    ("Ioana", "ioana"),
    ("Kwame", "kwame"),
    ("Lea", "lea"),
    ("Priya", "priya"),
    ("Mehmet", "mehmet"),
    ("Þóra", "thora"),
    ("Paul", "paul"),
    ("Noor", "noor"),
    ("Chloé", "chloe"),
    ("Jan-Erik", "jan-erik"),
];

/// Family names.
pub(super) const FAMILY: [&str; 24] = [
    "Nováková",
    "Müller",
    "Kowalczyk",
    "O'Brien",
    "de la Cruz",
    "Sørensen",
    "Öberg",
    "Lefèvre",
    "Gonçalves",
    "Παπαδοπούλου",
    "Шевченко",
    "渡辺",
    "Smith, Jr.",
    "Weiß",
    "El-Sayed",
    "Trần",
    "Muñoz",
    "Dvořák",
    "Ionescu",
    "Mensah",
    "Schmidt",
    "Iyer",
    "Yıldız",
    "Janssen",
];

/// Countries and how their telephone numbers begin.
pub(super) const COUNTRIES: [(&str, &str); 8] = [
    ("DE", "+49"),
    ("DE", "+49"),
    ("AT", "+43"),
    ("CZ", "+420"),
    ("FR", "+33"),
    ("NL", "+31"),
    ("PL", "+48"),
    ("SE", "+46"),
];

/// Stock keeping prefixes, and what the things are called.
pub(super) const GOODS: [(&str, &str); 8] = [
    ("TEA", "Sencha"),
    ("TEA", "Assam Crème"),
    ("COF", "Caffè crema"),
    ("COF", "Äthiopien Sidamo"),
    ("CUP", "Cup \"Aoi\", 0,25 l"),
    ("POT", "Tetsubin 鉄瓶"),
    ("JAM", "Powidła śliwkowe"),
    ("BOX", "Gift box, large"),
];

/// What customers write when they order.
pub(super) const WISHES: [&str; 5] = [
    "Please ring twice",
    "à côté de la porte",
    "Leave with \"Café Öz\", ground floor",
    "Hinterhof\n3. Etage links",
    "",
];

/// Where parcels start.
pub(super) const WAREHOUSES: [&str; 2] = ["BER", "ROT"];
