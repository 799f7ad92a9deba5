//! Short and pet forms of given names.
//!
//! Two names are forms of one when they share a *root*: a name is a root of itself, and of each of its short forms.

use std::collections::HashMap;

use super::fold::fold;

/// Which names are forms of which.
#[derive(Clone, Debug)]
pub struct Nicknames {
    numbers: HashMap<String, u32>,
    /// By number.
    names: Vec<String>,
    /// Roots of each form, sorted.
    roots: HashMap<String, Vec<u32>>,
}

impl Default for Nicknames {
    /// Common forms in English, German, French, Spanish and Italian.
    fn default() -> Self {
        let mut nicknames = Nicknames { numbers: HashMap::new(), names: Vec::new(), roots: HashMap::new() };
        for line in COMMON.lines() {
            if let Some((name, forms)) = line.split_once(':') {
                forms.split_whitespace().for_each(|form| nicknames.insert(name.trim(), form));
            }
        }
        nicknames
    }
}

impl Nicknames {
    /// Adds that `form` stands for `name`, in any spelling.
    pub fn add(&mut self, name: &str, form: &str) {
        self.insert(&fold(name), &fold(form));
    }

    fn insert(&mut self, name: &str, form: &str) {
        if name.is_empty() || form.is_empty() {
            return;
        }
        let next = self.names.len() as u32;
        let root = *self.numbers.entry(name.to_owned()).or_insert(next);
        if root == next {
            self.names.push(name.to_owned());
        }
        for form in [name, form] {
            let roots = self.roots.entry(form.to_owned()).or_default();
            if let Err(place) = roots.binary_search(&root) {
                roots.insert(place, root);
            }
        }
    }

    /// The first name of which `name` is a form, or itself.
    pub fn first_root<'a>(&'a self, name: &'a str) -> &'a str {
        self.roots(name).first().map_or(name, |root| &self.names[*root as usize])
    }

    /// Roots of a folded name; empty if it is no form of any other.
    pub fn roots(&self, name: &str) -> &[u32] {
        self.roots.get(name).map_or(&[], Vec::as_slice)
    }
}

/// Whether two sorted lists share a number.
pub fn share_a_root(a: &[u32], b: &[u32]) -> bool {
    a.iter().any(|root| b.binary_search(root).is_ok())
}

const COMMON: &str = "
aaron: ron ronnie erin
abel: abe
abigail: abby abbey abbie abbi abbe gail
abraham: abe bram
ada: addie addy adie
adalbert: bert
adam: ad ade
adela: della adie addie
adelaide: addie addy heidi della
adele: addy dell della
adelheid: heidi heide
adeline: ada addy delia lina
adolf: dolf dolfi
adrian: ade rian
adrienne: adrie enne rienne
agatha: aggie aggy aga
agnes: aggie aggy nessa ness inez
alan: al allan allen
albert: al bert bertie albi
alberta: bertie berta
alessandra: sandra ale alessia
alessandro: ale sandro alex
alexander: alex alec al sandy xander sascha lex alek sander lexi
alexandra: alex alexa sandra sandy lexi sascha alla xandra
alexandre: alex sacha
alexandria: alex alla drina
alexis: alex lexi lex
alfonso: poncho al
alfred: al alf alfie fred freddy freddie fredi
alfredo: fredo al
alice: allie ally elsie lisa alicia
alicia: allie ally elsie lisa licia
alison: ali allie ally allison
allan: alan allen al
allen: alan allan al
allison: ali allie ally
alois: lois alo
alyssa: ally lissa aly lissia
amanda: mandy manda mandi
amelia: amy emily mel millie emma
anastasia: ana stacy stasia nastja asya stacey
andre: drea andy dre
andrea: andi andy drea dee rea
andreas: andi andy
andrew: andy drew randy dru
angela: angie angel angi ange
angelica: angel angie angelika angelique
angelika: angie geli
angelina: angie lina angel
ann: annie nan nancy anna anne
anna: ann anne annie anni anya anja nan annika anka
anne: ann annie nan anna
anneliese: anni liese
annette: anna nettie netta netty
anselm: ance anse ansel
anthony: tony ant anth
antoine: tony toine
antoinette: toni tony netta nettie ann
anton: toni tony
antonia: toni tony netta ann
antonio: tony toni ant tonio nino tono
april: apryl
archibald: archie arch
arnold: arnie arne
arthur: art artie
ashley: ash ashlee ashly leah
aubrey: bree
audrey: dee audree audie
august: gus gust augie
augusta: gussie aggy gusta tina
augustine: gus august augie
aurelia: aurilla ora orilla
barbara: barb babs barbie bab bobbie babsi barbra
bartholomew: bart barty bartel
beatrice: bea trixie trix trisha bee tricia
beatriz: bea betty
belinda: bel belle linda
benedict: ben bennie benny
benedikt: ben benni
benjamin: ben benny benji bennie benjy jamie
bernadette: bernie detta
bernard: bernie barney berny
bernardo: nardo berni
bernhard: bernd berni hardy
bertha: bertie bert berti
bertram: bert bertie
beverly: bev
brandon: brand brandy
brenda: brendy bren
bradley: brad
bradford: brad ford
brian: bryan bry
bridget: biddy bridie bridgie
brigitte: gitte gitta britta
brittany: britt brit brittney
calvin: cal vin vinny
cameron: cam ron ronny
camille: millie cammie cam
candace: candy dacey
carl: karl charlie carlo
carlos: carlito charlie
carmen: carmela mencha
carol: carrie carolyn caro lynn
carolina: caro lina
caroline: carrie caro carol lynn carly callie line
carolyn: carrie carol lynn caro
carsten: karsten
casey: kc
cassandra: cass cassie sandra sandy
catherine: cathy cat kate katie kathy cate kitty kit kay kathleen katy trina cathleen
cathleen: cathy kathy kate
cecilia: cece celia cissy cilla sissy
charles: charlie chuck chas chaz carl chip chick
charlotte: charlie lottie lotte char lotta
chester: chet
chiara: kiki
christian: chris christy kit
christina: chris tina christy kristi chrissy crissy
christine: chris tina christy chrissy crissy
christoph: chris stoffel
christophe: chris tophe
christopher: chris kit topher christy
clara: clarissa claire clare
clarence: clare
claudia: claude claud
clifford: cliff ford
clinton: clint
connor: con
constance: connie
cornelia: corny nelia nelly conny
cornelius: con neil corny
courtney: court
crystal: chris tal stal
curtis: curt kurt
cynthia: cindy cyn cintha
daisy: margaret
dale: dal
daniel: dan danny dani
daniela: dani nela ela
danielle: dani danny elle
darlene: darry lena
darrell: darry
david: dave davey davy
dawn: dawnie
deborah: deb debbie debby debra debi
debra: deb debbie debby
delbert: del bert
delores: lola dee lolly della dolly
denise: dee denny nise
dennis: denny den
derek: derry ricky
diana: di diane didi
diane: di diana
dieter: didi
dolores: lola dee lolly dolly
dominic: dom nick nic
dominik: dom nik
dominique: dom nikki
donald: don donnie donny
donna: dona
dorothea: dora thea doro dorle dorthy dot
dorothy: dot dottie dolly dora dodie
douglas: doug
duncan: dunk
dustin: dusty
dwayne: duane
dwight: ike
earl: earle
eberhard: hardi ebbo
eckhard: ecki
edgar: ed eddie ned
edith: edie dita eda
edmund: ed eddie ted ned
eduardo: eddie edu lalo
edward: ed eddie ted teddy ned eddy
edwin: ed eddie win ned
eileen: helen
elaine: lainie helen laney
eleanor: ellie nell nora ella nelly lenora elaine ellen
elena: lena ellie ella
elfriede: elfi friedel
elijah: eli lige
elisabeth: lisa elsa lisbeth sissi lilli betty ella elli bettina liesel elise
elizabeth: liz beth lizzie betsy betty eliza elsie libby lisa bess bessie elisa lizzy liza buffy ellie lilibet elise
ella: ellie
ellen: nell nellie ellie helen
elmer: elm
elouise: ellie louise
elvira: elvie vira
emanuel: manny emmanuel immanuel
emilia: emmi milla
emily: em emmy millie emmie emma
emma: em emmy emmie
enrique: quique henry rick
eric: rick ricky rikki
erica: rickie ricki rikki
erika: riki eri
erin: rin
ernest: ernie
ernst: erni
ernesto: neto ernie
esteban: steve
estelle: stella essie
esther: essie hester
ethel: eth
eugene: gene
eva: evi eve evita
evelyn: eve evie lyn
ezekiel: zeke
ezra: ez
faith: fay
federica: fede
federico: fede rico
felicia: fel feli lisha
ferdinand: ferdi nando
fernando: nando ferdie
florence: flo flora flossie
florian: flo flori
frances: fran fanny frankie francie sis
francesca: franca fran francy
francesco: franco ciccio cesco
francis: frank fran frankie
francisca: paca fran
francisco: paco pancho frank cisco kiko curro
francois: franz frank
francoise: fanchon
frank: frankie
franklin: frank
franz: franzi franzl
franziska: franzi ziska fanny
frederic: fred fredo
frederick: fred freddie freddy fritz rick
fredrick: fred freddie freddy
friedrich: fritz fred friedel
gabriel: gabe gabby gab
gabriela: gaby gabi gabriele ela
gabriele: gabi gaby
gabrielle: gabby gabi elle ella
gail: gayle
garrett: gary
gary: garry
genevieve: gen jenny eve viv
geoffrey: geoff jeff
georg: schorsch jorg jurgen
george: georgie geordie
georgina: georgie gina
gerald: gerry jerry ger
geraldine: gerry jerry dina
gerard: gerry jerry
gerhard: gerd hardy gert
gertrude: gertie trudy trudi gert
gilbert: gil bert
giovanna: gianna vanna
giovanni: gianni nanni vanni gio
giuseppe: beppe peppe pino
giuseppina: pina
glenn: glen
gloria: glory
gottfried: friedel
grace: gracie
graciela: chela
gregor: greg
gregory: greg gregg
gretchen: margaret
gudrun: gudi
guadalupe: lupe lupita
guillaume: guy
guillermo: memo guille
gunther: gunni
gustav: gus
gwendolyn: gwen wendy
hannah: ann anna hanna
hannelore: hanne lore
hans: hansi hannes
harold: hal harry
harriet: hattie harry
harrison: harry
harry: harold henry
hazel: haze
heather: hetty
hector: tito
heinrich: heinz heini
heinz: heiner
helen: nell nellie lena ella ellie ellen helena lenny
helena: lena nell helen
helene: lena leni
helmut: helmi
henri: riton
henriette: jette henni
henry: hank harry hal hen
herbert: herb bert herbie herbi
herman: harman dutch
hermann: harm manni
hildegard: hilde hilda
hillary: hilary hill
howard: howie ward
hubert: hugh bert hub
hugh: hughie huey
hugo: ugo
ignacio: nacho
ignatius: iggy
ilse: elisabeth
ingeborg: inge inga
ingrid: inga inge
irene: rena
isaac: ike zac
isabel: bella belle izzy isa ibby chabela
isabella: bella izzy isa belle ella
isabelle: isa belle izzy
isaiah: zay
ivan: vanya
jack: john jackie
jackson: jack
jacob: jake jay coby jakob
jacqueline: jackie jacqui jacky lynn
jaime: jamie jim
jakob: jake
james: jim jimmy jamie jem jay jimmie
jana: janine
jane: janie jean janet jenny
janet: jan jane jessie
janice: jan
jasmine: jas jazz mina
jason: jay jase
javier: javi
jean: jeannie jane
jeanette: jean nettie jan
jeanne: jean jane
jeffrey: jeff geoff
jennifer: jen jenny jenn jennie
jeremiah: jerry jem
jeremy: jerry jem jez
jerome: jerry
jessica: jess jessie jesse
jesse: jess
jesus: chuy chucho
jill: gill jillian
jillian: jill gill
joachim: jochen achim jo
joan: jo joanie joni
joanna: jo joan joann
joanne: jo joan joann
joao: juca
joel: joe
johann: hans hannes jo johnny
johanna: hanna jo hanni hannah joan
johannes: hannes hans jo joe johnny
john: jack johnny jon jock johnnie
jonathan: jon john nathan jonny johnny nate
jordan: jordie judd
jorge: george coque
jose: pepe joe joey chepe
josef: sepp joe jupp
josefa: pepa fina
josefine: josi fine fini
joseph: joe joey jo jos jody
josephine: jo josie fifi jody posey
joshua: josh jos
joyce: joy
juan: juanito johnny
juana: juanita
juanita: nita
judith: judy judi jude jody
julia: julie jule jill
julian: jules julie
juliana: ana julie
julie: jule jules
juliet: julie
jurgen: jorg
justin: just tin
karen: kari kaz
karin: kari
karl: karli charly carl kalle
karla: karli
karoline: karo line lina
katharina: kathi kati kathrin katrin kati ina katja rina kate
katherine: kate kathy katie kat kay kitty kathryn kit kathi katy trina
kathleen: kathy kate katie kay kat
kathryn: kate kathy katie kat kathi
kathrin: kathi katja
katrina: kat trina
keith: kit
kelly: kel
kenneth: ken kenny
kevin: kev
kimberly: kim kimberley kimmy
klaus: niklas
konrad: conny kurt conrad radi
konstantin: kostja konsti
kristen: kris kristi kirsten
kristin: kris kristi
kristina: kris tina kristi
kristine: kris tina kristi
kurt: curt
kyle: ky
larry: lars
laura: laurie lauren lori lolly
lauren: laurie ren
laurence: larry lon lonny
lawrence: larry lon lonny laurie lars
leah: lee
leo: leon
leon: leo lee
leonard: leo len lenny leon
leonardo: leo nardo
leopold: leo poldi
leroy: roy lee
leslie: les lee
lester: les
letitia: tish letty
lieselotte: lilo lotte liese
lilian: lil lily lilly
lillian: lil lily lilly lillie
linda: lindy lynn
lindsay: lin
lisa: lise
lloyd: loy
lois: lou
lorenz: lenz
lorenzo: renzo lori
loretta: etta lorrie retta
lori: laura
lorraine: lorrie rain lori
louis: lou louie
louise: lou lulu lulie
lourdes: lulu
lucas: luke luc
lucia: luci lucy
lucille: lucy lu cille
lucinda: lucy cindy
ludwig: lutz wiggerl lu
luigi: gigi gino
luis: lucho luisito
luisa: lu luise
lukas: luke
lydia: lyddie
lynn: lin
mabel: mab
madeline: maddie maddy lena mady
madison: maddie maddy
magdalena: magda lena leni
malcolm: mal
manfred: manni fred
manuel: manny manolo manu
manuela: manu ela
marcel: celo
marcella: marcy cella
marcia: marcy
marco: marc
marcus: marc mark
margaret: maggie peggy meg marge margie greta rita daisy peg margo madge gretchen mag mamie
margarete: grete gretel greta gretchen rita
margarita: rita marga
margherita: rita ghita
margit: gitta
maria: mary mia mitzi ria marie mimi mariechen
marian: mary
mariana: mari ana
marianne: anne mary nanni
marie: mary
marilyn: mary lynn
marina: rina
mario: mariolino
marion: mary
marjorie: marge margie margy
mark: marc marcus
markus: mark
marlene: lena marla
marsha: marcy
marta: martl
martha: marty mattie patty
martin: marty mart
martina: tina martl
marvin: marv
mary: molly polly mae mamie may marie mimi mitzi maria
massimo: max
mathilde: tilda tilly hilde
matilda: tilly mattie tilda maud patty
matteo: teo
matthew: matt matty mat thias
matthias: matthes hias matze
matthieu: matt
maureen: mo reenie mary
maurice: morris mo
max: maxi
maximilian: max maxi
maxwell: max
megan: meg meggie
melanie: mel melly lanie
melissa: mel missy lissa lisa milly
melvin: mel
mercedes: mercy sadie meche
meredith: merry
mia: maria
michael: mike mick mickey mikey micky michi michel mickie
michaela: michi micky mika
michel: mick
michele: micky shelly mickey
michelle: shelly mickey micky chelle shell
miguel: mike migue
mildred: millie milly
minerva: minnie
miriam: mimi mitzi
mitchell: mitch
mohammed: mo mohamed muhammad
moises: moi
monica: mona moni
monika: moni mona
monique: mo
montgomery: monty
morris: morrie mo
moritz: mo
mortimer: mort
moses: mo
muriel: mur
myron: ron
nancy: nan ann nance
naomi: omi
natalia: nat talia
natalie: nat nattie natty
natasha: tasha nat
nathan: nate nat
nathaniel: nate nat nathan than
nicholas: nick nicky nico claas
nicola: nick nicky nico
nicolas: nick nico
nicole: nikki nicki nicky cole nici
nikolaus: niko klaus claus nico
norbert: norb bert
norma: normie
norman: norm
oliver: ollie olly oli
olivia: liv livia ollie livvy
oscar: ozzie
oswald: ozzie ossi waldo
otto: otti
pamela: pam pammy
paola: paoletta
pasquale: lino
patricia: pat patty tricia trish patsy patti trisha
patrick: pat paddy rick
paul: paulie pauli
paula: polly lina
paulina: lina polly
pauline: polly paula
pedro: perico
penelope: penny
peter: pete petey
petra: peti
philip: phil pip
philipp: phil lipp
philippe: phil
phillip: phil pip
phyllis: phyl
pilar: pili
priscilla: cilla prissy cissy
prudence: pru prudy
rachel: rach shelly ray
rafael: rafa raf
rainer: reiner
ralph: rafe
ramon: moncho
ramona: mona
randall: randy
randolph: randy dolph
raphael: raph
raul: rulo
raymond: ray
rebecca: becky becca beck reba
regina: gina reggie ginny
reginald: reg reggie
reinhard: hardy reini
reinhold: reini
renate: rena nate
rene: renny
ricardo: rick ricky rico
richard: rick dick rich richie ricky ritchie dickie
rita: margaret
robert: bob rob bobby robbie bert robin bobbie
roberta: bobbie robbie berta
roberto: beto rob berto tito
rochelle: shelly roche
roderick: rod rick roddy
rodney: rod
rodrigo: rodri
roger: rog
roland: roly rollie orlando
ronald: ron ronnie ronny
rosa: rosi rosie
rosalie: rosi rosa
rosalind: roz rosie
rosario: charo
rose: rosie
rosemarie: rosi rose romy marie
rosemary: rosie rose mary
rosina: sina
roxanne: roxie roxy rose
rudolf: rudi dolf rolf
rudolph: rudy rolf
rupert: bert
russell: russ rusty
ruth: ruthie
ryan: ry
sabine: bine
sabrina: brina
sally: sal sarah
salvador: chava sal
salvatore: sal toto turi toto
samantha: sam sammy mandy
samuel: sam sammy
sandra: sandy sandi cassandra
santiago: santi diego chago
sara: sally sadie sari
sarah: sally sadie sara
saundra: sandy
scott: scotty
sean: shawn shaun
sebastian: seb bastian basti bast
sergio: checho
shannon: shanny
sharon: shari sherry shay
shawn: sean shaun
sheila: cecilia
shelby: shel
sheldon: shelly
shirley: lee sherry
sidney: sid syd
siegfried: sigi siggi
sigmund: sig
simon: sy si
simone: mona simi
sophia: sophie fia
sofia: sophie sofie
solomon: sol
sonja: soni
stacey: stacy
stanley: stan
stefan: steff steffen
stefania: stefi
stefanie: steffi
stefano: ste
stephan: steff steve
stephanie: steph stephie annie stevie steffi fanny
stephen: steve steph stevie
steven: steve steph stevie
stuart: stu
susan: sue susie suzy suzie sukey
susana: susi su
susanna: susi sanna susan
susanne: susi sanne susa
suzanne: sue suzy susie
sydney: syd
sylvester: sly syl vester
sylvia: syl sylvie
tabitha: tabby
tamara: tammy tam mara
tatiana: tania tanja
taylor: tay
teresa: terry tess tessa tracy teri reese resi
terence: terry
terrance: terry
terry: theresa
thaddeus: thad tad
thelma: tel
theodor: theo
theodore: ted teddy theo
theresa: terry tess tessa tracy teri resi
therese: resi terry
thomas: tom tommy thom tomas
thorsten: torsten
tiffany: tiff tiffy
timothy: tim timmy
tobias: toby tobi
tomas: tommy
tracy: trace
travis: trav
tristan: tris
tyler: ty
ulrich: uli ulli
ulrike: uli ulli ricke
ursula: uschi ulla
valentin: val
valentina: vale tina
valeria: vale
valerie: val
vanessa: vanny nessa essa van
vera: veronica
vernon: vern
veronica: ronnie vera roni vero
veronika: vroni vera
victor: vic vick
victoria: vicky vicki tori vic viki
vincent: vince vin vinny vinnie
vincenzo: enzo vince
viola: vi
violet: vi
virginia: ginny ginger gina virgie jinny
vivian: viv
viviane: vivi
vladimir: vlad
volker: volki
wallace: wally
walter: walt wally wat walti
wanda: wendy
warren: ren
waltraud: traudl traude
wendy: gwendolyn
wesley: wes
wilbert: will bert wil
wilfred: will fred wilf
wilhelm: willi willy helm bill
wilhelmina: mina minna minnie willa wilma billie
willard: will
william: bill will billy willie willy liam
winfred: fred win
winifred: winnie freddie win
winston: win
wolfgang: wolf wolfi
woodrow: woody
xavier: javier
yolanda: yoli
yvonne: vonnie
zachariah: zach zack
zachary: zach zack zac
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_of_one_name_meet() {
        let mut nicknames = Nicknames::default();
        let meet = |nicknames: &Nicknames, a: &str, b: &str| share_a_root(nicknames.roots(a), nicknames.roots(b));
        for (a, b) in [("robert", "bob"), ("bob", "rob"), ("peggy", "margaret"), ("hans", "johannes"), ("pepe", "jose")]
        {
            assert!(meet(&nicknames, a, b) && meet(&nicknames, b, a), "{a} {b}");
        }
        assert!(!meet(&nicknames, "robert", "richard"));
        assert!(!meet(&nicknames, "zzz", "zzz"));
        nicknames.add("Łukasz", "Luki");
        assert!(meet(&nicknames, "lukasz", "luki"));
    }
}
